-- ARGV: gateway, then contents it waits for. Answers for each its payload, '' while it waits, false when it is unknown.
local known = {}
for i = 2, #ARGV do
  local payload = redis.call('GET', P .. 'result:' .. ARGV[i])
  local key = P .. 'job:' .. ARGV[i]
  if redis.call('EXISTS', key) == 1 then
    redis.call('HSET', key, 'w:' .. ARGV[1], '1')
    known[#known + 1] = ''
  else
    known[#known + 1] = payload
  end
end
return known
