-- ARGV: content, model, rank, shard, body, cost, milliseconds left (-1: no deadline), gateway, capacity,
--       time to live of blobs, whether a stored result counts, then the digests of its blobs.
-- Answers {'done', payload} | {'joined'} | {'blobs', missing …} | {'full', tokens waiting} | {'queued'}.
local content, model, rank, shard, body = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local cost, left, gateway, capacity = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9])
local now, key = now_ms(), P .. 'job:' .. ARGV[1]
local deadline = left < 0 and -1 or now + left

if ARGV[11] == '1' then
  local payload = redis.call('GET', P .. 'result:' .. content)
  -- A result that may become better when it is tried again begins with 0.
  if payload and string.sub(payload, 1, 1) == '1' then return {'done', payload} end
end

local job = redis.call('HMGET', key, 'rank', 'deadline', 'owner', 'stream', 'entry', 'shard', 'cost')
if job[1] then
  redis.call('HSET', key, 'w:' .. gateway, '1')
  local known = tonumber(job[2])
  if known >= 0 and (deadline < 0 or deadline > known) then redis.call('HSET', key, 'deadline', deadline) end
  if tonumber(rank) < tonumber(job[1]) and job[3] == '' then
    drop_entry(job[4], job[5])
    redis.call('HINCRBY', P .. 'load:' .. model, job[1], -job[7])
    redis.call('HINCRBY', P .. 'load:' .. model, rank, job[7])
    enqueue(content, model, rank, job[6])
  end
  return {'joined'}
end

local missing = {'blobs'}
for i = 12, #ARGV do
  local blob = P .. 'blob:' .. ARGV[i]
  local ttl = redis.call('PTTL', blob)
  if ttl == -2 then
    missing[#missing + 1] = ARGV[i]
  elseif ttl < tonumber(ARGV[10]) then
    redis.call('PEXPIRE', blob, ARGV[10])
  end
end
if #missing > 1 then return missing end

local load = P .. 'load:' .. model
local waiting = 0
for _, tokens in ipairs(redis.call('HMGET', load, '0', '1', '2')) do waiting = waiting + tonumber(tokens or 0) end
if waiting > 0 and waiting + cost > capacity then return {'full', waiting} end

redis.call('HINCRBY', load, rank, cost)
redis.call('HSET', key, 'body', body, 'model', model, 'shard', shard, 'cost', cost, 'deadline', deadline, 'at', now,
  'deaths', 0, 'w:' .. gateway, '1')
enqueue(content, model, rank, shard)
return {'queued'}
