-- ARGV: worker, then contents: these jobs are in the forward that starts now, so a death is laid at their door.
for i = 2, #ARGV do
  local key = P .. 'job:' .. ARGV[i]
  if redis.call('HGET', key, 'owner') == ARGV[1] then redis.call('HSET', key, 'began', ARGV[1]) end
end
return 0
