-- ARGV: whether other sources are to be loaded, then fields and values: an order to all workers. Answers its version.
local key = P .. 'control'
local version = redis.call('HINCRBY', key, 'version', 1)
if ARGV[1] == '1' then redis.call('HSET', key, 'generation', version) end
for i = 2, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
for _, worker in ipairs(redis.call('SMEMBERS', P .. 'workers')) do ring(worker) end
return version
