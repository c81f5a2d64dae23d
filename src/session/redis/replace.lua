-- Puts version N in the place of version N - 1, if whoever asks may still do so.
-- ARGV: prefix, id, version, record, end, lease or '', fence or ''
-- Answers {'done'}, {'gone'}, {'stale', record} or {'fenced', record}.
local id, version, fence = ARGV[2], tonumber(ARGV[3]), ARGV[7]
local row = redis.call('HMGET', name('s', id), 'v', 'r', 'f', 'd')
if not row[1] then
  return {'gone'}
end
if tonumber(row[1]) + 1 ~= version then
  return {'stale', row[2]}
end
-- A later holder of the lease has sent the same refresh token. Unless the provider has refused it there, what it says to
-- them counts, and what it said before may be void.
if fence ~= '' and row[3] ~= fence and row[4] ~= row[3] then
  return {'fenced', row[2]}
end
redis.call('HSET', name('s', id), 'v', ARGV[3], 'r', ARGV[4], 'e', ARGV[5])
redis.call('HDEL', name('s', id), 'j', 'd')
redis.call('ZADD', prefix .. ':ends', ARGV[5], id)
if fence ~= '' then
  redis.call('DEL', name('l', id))
end
redis.call('PUBLISH', prefix .. ':news', 'C' .. id)
return {'done'}
