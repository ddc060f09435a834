-- ARGV: worker, most tokens, most jobs, then pairs of a stream and the age in ms from which its jobs may be taken.
-- Answers {control version, {content, body, ms left, ms waited, deaths, cost, rank} …}, urgent streams first.
local worker, tokens, jobs = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()
local taken = {redis.call('HGET', P .. 'control', 'version') or '0'}

-- Whether the first entry that nobody has taken yet is old enough.
local function is_due(stream, age)
  local group = redis.call('XINFO', 'GROUPS', stream)[1]
  for i = 1, #group, 2 do
    if group[i] == 'last-delivered-id' then
      local first = redis.call('XRANGE', stream, '(' .. group[i + 1], '+', 'COUNT', 1)[1]
      return first and now - tonumber(string.match(first[1], '^%d+')) >= age
    end
  end
end

for i = 4, #ARGV, 2 do
  local stream, age = ARGV[i], tonumber(ARGV[i + 1])
  while tokens > 0 and jobs > 0 and (age == 0 or is_due(stream, age)) do
    local found = redis.call('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', 1, 'STREAMS', stream, '>')
    if not found then break end
    local entry = found[1][2][1]
    local content = entry[2][2]
    local key = P .. 'job:' .. content
    local job = redis.call('HMGET', key, 'body', 'deadline', 'at', 'deaths', 'cost', 'rank', 'entry')
    if job[1] and job[7] == entry[1] then
      redis.call('HSET', key, 'owner', worker)
      redis.call('SADD', P .. 'hand:' .. worker, content)
      local deadline = tonumber(job[2])
      local left = deadline < 0 and '-1' or tostring(math.max(0, deadline - now))
      taken[#taken + 1] = {content, job[1], left, tostring(now - job[3]), job[4], job[5], job[6]}
      tokens, jobs = tokens - job[5], jobs - 1
    else
      -- Its job is answered, or was put elsewhere.
      drop_entry(stream, entry[1])
    end
  end
end
return taken
