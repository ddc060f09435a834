-- ARGV: caller, hash of the id, fingerprint of the body, milliseconds. Answers whether the id is free or has this body.
local key = P .. 'id:' .. ARGV[1] .. ':' .. ARGV[2]
local known = redis.call('GET', key)
if known and known ~= ARGV[3] then return 0 end
redis.call('SET', key, ARGV[3], 'PX', ARGV[4])
return 1
