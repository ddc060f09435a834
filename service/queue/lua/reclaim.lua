-- ARGV: worker that lives, worker that is dead, deaths after which a job is given up, then the streams it read.
-- The dead one's jobs go before all others of their rank. Answers those given up: {content, body, deaths} …
local me, dead, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local given_up = {}
if is_alive('worker', dead) then return given_up end
for _, content in ipairs(redis.call('SMEMBERS', P .. 'hand:' .. dead)) do
  local key = P .. 'job:' .. content
  local job = redis.call('HMGET', key, 'owner', 'began', 'deaths', 'stream', 'entry', 'model', 'rank', 'body')
  if job[1] == dead then
    local deaths = tonumber(job[3])
    if job[2] == dead then
      deaths = deaths + 1
      redis.call('HSET', key, 'deaths', deaths)
    end
    if deaths > most then
      redis.call('HSET', key, 'owner', me)
      redis.call('SADD', P .. 'hand:' .. me, content)
      given_up[#given_up + 1] = {content, job[8], tostring(deaths)}
    else
      drop_entry(job[4], job[5])
      enqueue(content, job[6], job[7], 'again')
    end
  end
end
redis.call('DEL', P .. 'hand:' .. dead, P .. 'bell:' .. dead)
redis.call('SREM', P .. 'workers', dead)
for i = 4, #ARGV do
  redis.call('XGROUP', 'DELCONSUMER', ARGV[i], 'workers', dead)
  redis.call('SREM', P .. 'workers:' .. string.match(ARGV[i], '^' .. P .. 'queue:(.+):[^:]+:[^:]+$'), dead)
end
return given_up
