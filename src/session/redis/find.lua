-- The sessions of an index key. ARGV: prefix, index key. Answers id, record, id, record …
local found = {}
for _, id in ipairs(redis.call('SMEMBERS', name('i', ARGV[2]))) do
  local record = redis.call('HGET', name('s', id), 'r')
  if record then
    found[#found + 1] = id
    found[#found + 1] = record
  else
    -- It has gone by itself.
    redis.call('SREM', name('i', ARGV[2]), id)
  end
end
return found
