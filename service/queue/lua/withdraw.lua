-- ARGV: content, gateway: its caller has gone. A job that nobody waits for and nobody has begun is dropped.
local key = P .. 'job:' .. ARGV[1]
redis.call('HDEL', key, 'w:' .. ARGV[2])
if redis.call('HGET', key, 'owner') ~= '' then return 0 end
for _, field in ipairs(redis.call('HKEYS', key)) do
  if string.sub(field, 1, 2) == 'w:' then return 0 end
end
finish(ARGV[1], false)
return 1
