-- What all scripts share. Names are those of service/queue/redis_keys.py.
-- A job's hash: body, model, rank, shard, cost, deadline (ms of this server's clock, -1 for none), at (ms), stream, entry,
-- owner, began, deaths, and a field w:GATEWAY for each gateway that waits for it.
local P = 'steelyard:'

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function is_alive(kind, id)
  return redis.call('EXISTS', P .. kind .. ':' .. id) == 1
end

-- Of what a worker says of itself: msgpack of `redis_codec.Standing`.
local function state_of(standing)
  return cmsgpack.unpack(standing).state
end

-- A worker that finds nothing waits at its bell; one stroke is enough however many jobs have come.
local function ring(worker)
  local bell = P .. 'bell:' .. worker
  if redis.call('EXISTS', bell) == 0 then
    redis.call('RPUSH', bell, '1')
    redis.call('PEXPIRE', bell, 60000)
  end
end

local function ring_all(model)
  for _, worker in ipairs(redis.call('SMEMBERS', P .. 'workers:' .. model)) do
    ring(worker)
  end
end

local function enqueue(content, model, rank, shard)
  local stream = P .. 'queue:' .. model .. ':' .. rank .. ':' .. shard
  local entry = redis.call('XADD', stream, '*', 'job', content)
  redis.call('HSET', P .. 'job:' .. content, 'stream', stream, 'entry', entry, 'rank', rank, 'owner', '', 'began', '')
  local owner = redis.call('GET', P .. 'lease:' .. model .. ':' .. shard)
  if owner then ring(owner) else ring_all(model) end
end

local function drop_entry(stream, entry)
  redis.call('XACK', stream, 'workers', entry)
  redis.call('XDEL', stream, entry)
end

-- The job is answered or withdrawn: nothing of it stays but, perhaps, its result.
local function finish(content, was_done)
  local key = P .. 'job:' .. content
  local job = redis.call('HMGET', key, 'model', 'rank', 'cost', 'stream', 'entry')
  drop_entry(job[4], job[5])
  local load = P .. 'load:' .. job[1]
  redis.call('HINCRBY', load, job[2], -job[3])
  if was_done then redis.call('HINCRBY', load, 'done', job[3]) end
  redis.call('DEL', key)
end

-- Results whose time is up, then the oldest ones over the budget, some at a time.
local function sweep(now, budget, most)
  local order, sizes, total = P .. 'results', P .. 'results:size', P .. 'results:bytes'
  for _ = 1, most do
    local oldest = redis.call('ZRANGE', order, 0, 0, 'WITHSCORES')
    if not oldest[1] then
      redis.call('DEL', total)
      return
    end
    local bytes = tonumber(redis.call('GET', total) or '0')
    if tonumber(oldest[2]) > now and bytes <= budget then return end
    redis.call('DEL', P .. 'result:' .. oldest[1])
    redis.call('DECRBY', total, redis.call('HGET', sizes, oldest[1]) or 0)
    redis.call('HDEL', sizes, oldest[1])
    redis.call('ZREM', order, oldest[1])
  end
end

local function keep_result(content, payload, ttl, budget)
  local now = now_ms()
  local size = #payload + 256
  redis.call('SET', P .. 'result:' .. content, payload, 'PX', ttl)
  redis.call('ZADD', P .. 'results', now + ttl, content)
  local before = redis.call('HGET', P .. 'results:size', content) or 0
  redis.call('HSET', P .. 'results:size', content, size)
  redis.call('INCRBY', P .. 'results:bytes', size - before)
  sweep(now, budget, 8)
end
