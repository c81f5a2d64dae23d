-- Puts a session in that has moved here, in the place of an older version of it.
-- Answers 1 when there was none. ARGV: prefix, id, version, record, end, last use, index key, index key or ''
local id = ARGV[2]
local there = redis.call('HGET', name('s', id), 'v')
if not there or tonumber(there) < tonumber(ARGV[3]) then
  redis.call('HSET', name('s', id), 'v', ARGV[3], 'r', ARGV[4], 'e', ARGV[5], 'k1', ARGV[7], 'k2', ARGV[8])
  local seconds = forgotten(ARGV[5], ARGV[6])
  redis.call('EXPIRE', name('s', id), seconds)
  redis.call('ZADD', prefix .. ':ends', ARGV[5], id)
  index(ARGV[7], id, seconds)
  index(ARGV[8], id, seconds)
  redis.call('PUBLISH', prefix .. ':news', 'C' .. id)
end
redis.call('ZADD', prefix .. ':used', 'GT', ARGV[6], id)
return there and 0 or 1
