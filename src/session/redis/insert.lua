-- Puts a session in, after the longest unused ones have made room. Answers those: id, record, id, record …
-- ARGV: prefix, id, version, record, end, last use, index key, index key or '', capacity, most that make room at once
local id, capacity, gone = ARGV[2], tonumber(ARGV[9]), {}
local existed = redis.call('EXISTS', name('s', id)) == 1
for _ = 1, tonumber(ARGV[10]) do
  if existed or redis.call('ZCARD', prefix .. ':used') < capacity then
    break
  end
  local oldest = redis.call('ZRANGE', prefix .. ':used', 0, 0)[1]
  local record = take(oldest)
  if record then
    gone[#gone + 1] = oldest
    gone[#gone + 1] = record
  end
end
redis.call('HSET', name('s', id), 'v', ARGV[3], 'r', ARGV[4], 'e', ARGV[5], 'k1', ARGV[7], 'k2', ARGV[8])
local seconds = forgotten(ARGV[5], ARGV[6])
redis.call('EXPIRE', name('s', id), seconds)
redis.call('ZADD', prefix .. ':used', 'GT', ARGV[6], id)
redis.call('ZADD', prefix .. ':ends', ARGV[5], id)
index(ARGV[7], id, seconds)
index(ARGV[8], id, seconds)
return gone
