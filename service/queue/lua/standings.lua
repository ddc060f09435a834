-- ARGV: models. Answers what each living worker of any of them says of itself.
local seen, standings = {}, {}
for _, model in ipairs(ARGV) do
  for _, worker in ipairs(redis.call('SMEMBERS', P .. 'workers:' .. model)) do
    local standing = redis.call('GET', P .. 'worker:' .. worker)
    if standing and not seen[worker] then
      seen[worker] = true
      standings[#standings + 1] = standing
    end
  end
end
return standings
