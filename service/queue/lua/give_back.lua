-- ARGV: worker, then contents that it has in hand and will not run: they go before all others of their rank.
for i = 2, #ARGV do
  local content = ARGV[i]
  local key = P .. 'job:' .. content
  redis.call('SREM', P .. 'hand:' .. ARGV[1], content)
  local job = redis.call('HMGET', key, 'owner', 'stream', 'entry', 'model', 'rank')
  if job[1] == ARGV[1] then
    drop_entry(job[2], job[3])
    enqueue(content, job[4], job[5], 'again')
  end
end
return 0
