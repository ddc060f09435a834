"""What the Redis store does in one step each, in Lua; Redis's clock is the only one.

A job's keys, below `steelyard:jobs:JOB:`, all of which expire together:
  meta    hash    caller, counts, times in milliseconds since 1970
  groups  hash    index → line, of the groups without a row
  leased  zset    index → until when a runner holds it
  rows    stream  N-0 → the Nth row
Beside them, below `steelyard:jobs:`:
  active  zset    jobs with groups that have no row → their last turn, counted by `turn`
  sizes   hash    job or upload → bytes; `bytes` is their sum, and `expiry` a zset of when each of them goes
Keys are made from ids inside the scripts, so this is for one Redis, not for a cluster of them.
"""

_SHARED = """
local P = 'steelyard:jobs:'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function key(job, what) return P .. job .. ':' .. what end

local function keep_for(entry, ttl)
  redis.call('ZADD', P .. 'expiry', now + ttl, entry)
  for _, name in ipairs({'active', 'turn', 'sizes', 'bytes', 'expiry'}) do
    if redis.call('PTTL', P .. name) < ttl then redis.call('PEXPIRE', P .. name, ttl) end
  end
end

local function touch(job, ttl)
  redis.call('HSET', key(job, 'meta'), 'expires', now + ttl)
  for _, what in ipairs({'meta', 'groups', 'leased', 'rows'}) do redis.call('PEXPIRE', key(job, what), ttl) end
  keep_for(job, ttl)
end

local function charge(entry, size)
  redis.call('HINCRBY', P .. 'sizes', entry, size)
  redis.call('INCRBY', P .. 'bytes', size)
end

local function sweep()
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', P .. 'expiry', '-inf', now, 'LIMIT', 0, 1000)) do
    redis.call('DECRBY', P .. 'bytes', redis.call('HGET', P .. 'sizes', entry) or 0)
    redis.call('HDEL', P .. 'sizes', entry)
    redis.call('ZREM', P .. 'expiry', entry)
    redis.call('ZREM', P .. 'active', entry)
  end
end

local function count(meta, field) return tonumber(redis.call('HGET', meta, field) or '0') end

local function owns(meta, caller) return redis.call('HGET', meta, 'caller') == caller end

local function over(status, groups) return {status, tostring(now), 'groups', tostring(groups)} end

local function state(meta)
  local found = redis.call('HGETALL', meta)
  table.insert(found, 1, 'ok')
  table.insert(found, 2, tostring(now))
  return found
end

local function ended(meta)
  if redis.call('HGET', meta, 'cancelled') then return true end
  return redis.call('HGET', meta, 'closed') and count(meta, 'groups') == count(meta, 'done')
end

-- The last two times that it was noted how many rows there were: the rate is told from the older one.
local function mark(meta, window)
  local last = redis.call('HMGET', meta, 'later', 'later_done')
  if last[1] and now - tonumber(last[1]) < window then return end
  local done = count(meta, 'done')
  local older = last[1] and last or {now, done}
  redis.call('HSET', meta, 'marked', older[1], 'marked_done', older[2], 'later', now, 'later_done', done)
end
"""

# job, caller, is new, first, close, ttl, most groups, most bytes, bytes of the job itself, line …
APPEND = (
    _SHARED
    + """
local job, caller, create, first = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4])
local meta, groups, head = key(job, 'meta'), 0, 9
sweep()
-- The client asks once more when an answer was lost on the way.
if create and redis.call('EXISTS', meta) == 1 then return state(meta) end
if not create then
  if not owns(meta, caller) then return {'unknown'} end
  groups = count(meta, 'groups')
end
if first > groups then return over('missing', groups) end
local from, size = head + 1 + groups - first, 0
local new = math.max(0, #ARGV - from + 1)
if new > 0 then
  if redis.call('HGET', meta, 'closed') or redis.call('HGET', meta, 'cancelled') then return over('closed', groups) end
  if groups + new > tonumber(ARGV[7]) then return over('groups', groups) end
end
for place = from, #ARGV do size = size + #ARGV[place] end
local weight = size + (create and tonumber(ARGV[9]) or 0)
local held = tonumber(redis.call('GET', P .. 'bytes') or '0')
if weight > 0 and held + weight > tonumber(ARGV[8]) then return over('bytes', groups) end
if create then redis.call('HSET', meta, 'caller', caller, 'created', now) end
for place = from, #ARGV do
  redis.call('HSET', key(job, 'groups'), groups, ARGV[place])
  groups = groups + 1
end
if new > 0 then
  redis.call('HSET', meta, 'groups', groups)
  redis.call('HINCRBY', meta, 'waiting_bytes', size)
  redis.call('ZADD', P .. 'active', 'NX', redis.call('INCR', P .. 'turn'), job)
end
if weight > 0 then charge(job, weight) end
if ARGV[5] == '1' and not redis.call('HGET', meta, 'cancelled') then redis.call('HSET', meta, 'closed', 1) end
touch(job, tonumber(ARGV[6]))
return state(meta)
"""
)

# job, caller, ttl
FIND = (
    _SHARED
    + """
local meta = key(ARGV[1], 'meta')
if not owns(meta, ARGV[2]) then return {'unknown'} end
touch(ARGV[1], tonumber(ARGV[3]))
return state(meta)
"""
)

# job, caller, ttl
CANCEL = (
    _SHARED
    + """
local job = ARGV[1]
local meta = key(job, 'meta')
if not owns(meta, ARGV[2]) then return {'unknown'} end
if not ended(meta) then
  redis.call('HSET', meta, 'cancelled', 1)
  charge(job, -count(meta, 'waiting_bytes'))
  redis.call('HSET', meta, 'waiting_bytes', 0)
  redis.call('UNLINK', key(job, 'groups'), key(job, 'leased'))
  redis.call('ZREM', P .. 'active', job)
end
touch(job, tonumber(ARGV[3]))
return state(meta)
"""
)

# limit, lease, most bytes, window of the rate
TAKE = (
    _SHARED
    + """
sweep()
local limit, until_ms, size, taken = tonumber(ARGV[1]), now + tonumber(ARGV[2]), 0, {}
-- Who had a turn goes to the end, so that the others of many are reached next time.
local jobs = redis.call('ZRANGE', P .. 'active', 0, 255)
local share = math.max(1, math.floor(limit / math.max(1, #jobs)))
for _, job in ipairs(jobs) do
  local left = limit - #taken / 4
  if left <= 0 or size >= tonumber(ARGV[3]) then break end
  local meta, groups, leased = key(job, 'meta'), key(job, 'groups'), key(job, 'leased')
  local caller = redis.call('HGET', meta, 'caller')
  redis.call('ZADD', P .. 'active', redis.call('INCR', P .. 'turn'), job)
  if not caller then
    redis.call('ZREM', P .. 'active', job)
  else
    local wanted = math.min(share, left)
    local found = redis.call('ZRANGEBYSCORE', leased, '-inf', now, 'LIMIT', 0, wanted)
    local fresh, total = count(meta, 'next'), count(meta, 'groups')
    while #found < wanted and fresh < total do
      found[#found + 1] = tostring(fresh)
      fresh = fresh + 1
    end
    if #found > 0 then
      redis.call('HSET', meta, 'next', fresh)
      mark(meta, tonumber(ARGV[4]))
    end
    for _, index in ipairs(found) do
      local line = redis.call('HGET', groups, index)
      if line then
        redis.call('ZADD', leased, until_ms, index)
        size = size + #line
        for _, part in ipairs({job, index, caller, line}) do taken[#taken + 1] = part end
      else
        redis.call('ZREM', leased, index)
      end
    end
    redis.call('PEXPIREAT', leased, count(meta, 'expires'))
  end
end
return taken
"""
)

# until when from now, job, index, job, index …; a lease of 0 gives them back
KEEP = (
    _SHARED
    + """
local gone = {}
for place = 2, #ARGV, 2 do
  local job, index = ARGV[place], ARGV[place + 1]
  if redis.call('HEXISTS', key(job, 'groups'), index) == 1 then
    redis.call('ZADD', key(job, 'leased'), 'XX', now + tonumber(ARGV[1]), index)
  else
    gone[#gone + 1] = job
    gone[#gone + 1] = index
  end
end
return gone
"""
)

# job, index, row, failed, ttl, window of the rate
FINISH = (
    _SHARED
    + """
local job, index, row = ARGV[1], ARGV[2], ARGV[3]
local meta, groups = key(job, 'meta'), key(job, 'groups')
local size = redis.call('HSTRLEN', groups, index)
if redis.call('HDEL', groups, index) == 0 then return 0 end
redis.call('ZREM', key(job, 'leased'), index)
redis.call('XADD', key(job, 'rows'), string.format('%d-0', redis.call('HINCRBY', meta, 'done', 1)), 'r', row)
if ARGV[4] == '1' then redis.call('HINCRBY', meta, 'failed', 1) end
redis.call('HINCRBY', meta, 'waiting_bytes', -size)
charge(job, #row - size)
if redis.call('HLEN', groups) == 0 then redis.call('ZREM', P .. 'active', job) end
mark(meta, tonumber(ARGV[6]))
touch(job, tonumber(ARGV[5]))
return 1
"""
)

# entry, content, ttl, most bytes
PUT_UPLOAD = (
    _SHARED
    + """
local entry, content, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
sweep()
if redis.call('PEXPIRE', P .. entry, ttl) == 0 then
  local held = tonumber(redis.call('GET', P .. 'bytes') or '0')
  if held + #content > tonumber(ARGV[4]) then return over('bytes', 0) end
  redis.call('SET', P .. entry, content, 'PX', ttl)
  charge(entry, #content)
end
keep_for(entry, ttl)
return {'ok', tostring(now)}
"""
)
