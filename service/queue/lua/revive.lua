-- ARGV: content, time: a dead letter is tried anew, as if it had never killed anybody; nobody waits for it.
local dead, content = P .. 'dead:' .. ARGV[1], ARGV[1]
local job = redis.call('HMGET', dead, 'body', 'model', 'rank', 'shard', 'cost')
if not job[1] then return 0 end
redis.call('DEL', dead, P .. 'result:' .. content)
redis.call('ZREM', P .. 'dead', content)
if redis.call('EXISTS', P .. 'job:' .. content) == 0 then
  redis.call('HSET', P .. 'job:' .. content, 'body', job[1], 'model', job[2], 'shard', job[4], 'cost', job[5],
    'deadline', -1, 'at', now_ms(), 'deaths', 0)
  redis.call('HINCRBY', P .. 'load:' .. job[2], job[3], job[5])
  enqueue(content, job[2], job[3], job[4])
end
return 1
