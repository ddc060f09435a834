-- ARGV: worker, what it says of itself, its time to live, that of leases, that of what the fleet has loaded, shards,
--       budget of results, then its models.
-- Answers {control version, workers that are silent, shards leased of the first model, of the second …}.
local me, ttl, lease_ttl, shards = ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[6])
redis.call('SET', P .. 'worker:' .. me, ARGV[2], 'PX', ttl)
redis.call('SADD', P .. 'workers', me)
sweep(now_ms(), tonumber(ARGV[7]), 2000)
local state = state_of(ARGV[2])

local silent = {}
for _, worker in ipairs(redis.call('SMEMBERS', P .. 'workers')) do
  if not is_alive('worker', worker) then silent[#silent + 1] = worker end
end
local answer = {redis.call('HGET', P .. 'control', 'version') or '0', silent}

for i = 8, #ARGV do
  local model = ARGV[i]
  if state ~= 'loading' then
    redis.call('PEXPIRE', P .. 'fleet:' .. model, ARGV[5])
    redis.call('PEXPIRE', P .. 'serving:' .. model, ARGV[5])
  end
  redis.call('SADD', P .. 'workers:' .. model, me)
  local alive = 0
  for _, worker in ipairs(redis.call('SMEMBERS', P .. 'workers:' .. model)) do
    if is_alive('worker', worker) then alive = alive + 1 end
  end
  local share = state == 'awake' and math.ceil(shards / math.max(1, alive)) or 0
  local mine, free = {}, {}
  for shard = 0, shards - 1 do
    local owner = redis.call('GET', P .. 'lease:' .. model .. ':' .. shard)
    if owner == me then mine[#mine + 1] = shard elseif not owner then free[#free + 1] = shard end
  end
  while #mine > share do redis.call('DEL', P .. 'lease:' .. model .. ':' .. table.remove(mine)) end
  while #mine < share and #free > 0 do mine[#mine + 1] = table.remove(free, 1) end
  for _, shard in ipairs(mine) do redis.call('SET', P .. 'lease:' .. model .. ':' .. shard, me, 'PX', lease_ttl) end
  answer[#answer + 1] = mine
end
return answer
