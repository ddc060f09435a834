-- ARGV: worker, shards, then its models: it stops and has nothing in hand any more.
local me = ARGV[1]
redis.call('DEL', P .. 'worker:' .. me, P .. 'bell:' .. me)
if redis.call('SCARD', P .. 'hand:' .. me) == 0 then redis.call('SREM', P .. 'workers', me) end
for i = 3, #ARGV do
  redis.call('SREM', P .. 'workers:' .. ARGV[i], me)
  redis.call('SREM', P .. 'serving:' .. ARGV[i], me)
  for shard = 0, tonumber(ARGV[2]) - 1 do
    local lease = P .. 'lease:' .. ARGV[i] .. ':' .. shard
    if redis.call('GET', lease) == me then redis.call('DEL', lease) end
  end
end
return 0
