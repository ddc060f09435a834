-- ARGV: content, deaths: an engine process died with it in hand, and its worker lives.
local key = P .. 'job:' .. ARGV[1]
if redis.call('EXISTS', key) == 1 then redis.call('HSET', key, 'deaths', ARGV[2]) end
return 0
