-- ARGV: worker, content, payload, time to live, budget of results, why it is a dead letter ('' when it is none).
-- Result, acknowledgement and deletion in one; only the first result counts.
local worker, content, payload = ARGV[1], ARGV[2], ARGV[3]
local key = P .. 'job:' .. content
redis.call('SREM', P .. 'hand:' .. worker, content)
if redis.call('EXISTS', key) == 0 then return end
keep_result(content, payload, tonumber(ARGV[4]), tonumber(ARGV[5]))
if ARGV[6] ~= '' then
  local job = redis.call('HMGET', key, 'body', 'model', 'rank', 'shard', 'cost', 'deaths')
  redis.call('HSET', P .. 'dead:' .. content, 'body', job[1], 'model', job[2], 'rank', job[3], 'shard', job[4],
    'cost', job[5], 'deaths', job[6], 'why', ARGV[6], 'at', now_ms())
  redis.call('ZADD', P .. 'dead', now_ms(), content)
end
for _, field in ipairs(redis.call('HKEYS', key)) do
  local gateway = string.match(field, '^w:(.+)$')
  if gateway and is_alive('gateway', gateway) then
    local replies = P .. 'replies:' .. gateway
    redis.call('XADD', replies, 'MAXLEN', '~', 10000, '*', 'job', content, 'result', payload)
    redis.call('PEXPIRE', replies, 60000)
  end
end
finish(content, true)
