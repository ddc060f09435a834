-- ARGV: worker, model, generation, what it has loaded, time to live, then the model's streams.
-- One name stands for one thing: answers what others have registered when that is something else, or ''.
local me, model, generation, loaded = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local key, serving = P .. 'fleet:' .. model, P .. 'serving:' .. model
local known = redis.call('HMGET', key, 'generation', 'loaded')
if known[1] and known[2] ~= loaded then
  if tonumber(known[1]) >= generation then
    -- Those that have registered it: what a fleet has loaded is known for a while after the last of them has gone.
    for _, worker in ipairs(redis.call('SMEMBERS', serving)) do
      local standing = redis.call('GET', P .. 'worker:' .. worker)
      -- One that is still loading may be about to bring the same as this one.
      if worker ~= me and standing and state_of(standing) ~= 'loading' then return known[2] end
    end
  end
  redis.call('DEL', serving)
end
redis.call('HSET', key, 'generation', generation, 'loaded', loaded)
redis.call('SADD', serving, me)
redis.call('PEXPIRE', key, ARGV[5])
redis.call('PEXPIRE', serving, ARGV[5])
-- They are made together.
if redis.call('EXISTS', ARGV[#ARGV]) == 0 then
  for i = 6, #ARGV do redis.pcall('XGROUP', 'CREATE', ARGV[i], 'workers', '0', 'MKSTREAM') end
end
return ''
