-- Takes the lease of a session in order to send its refresh token.
-- ARGV: prefix, id, version, lease (a random text), time to live in ms, and 1 for who leaves a token alone that
-- may have been sent
-- Answers {'begun', fence, interrupted}, {'held'}, {'moved'} or {'gone'}.
local id, mine = ARGV[2], ARGV[4]
local row = redis.call('HMGET', name('s', id), 'v', 'f', 'j')
if not row[1] then
  return {'gone'}
end
if row[1] ~= ARGV[3] then
  return {'moved'}
end
local held = redis.call('GET', name('l', id))
if held and held ~= mine then
  return {'held'}
end
if held then
  -- Asked again, because the first answer was lost on its way. What it said of an earlier sender is not known any more, and
  -- to wait for one in vain costs less than not to wait.
  return {'begun', row[2], 1}
end
local interrupted = row[3] == row[1] and 1 or 0
if interrupted == 1 and ARGV[6] == '1' then
  return {'held'}
end
local fence = redis.call('HINCRBY', name('s', id), 'f', 1)
redis.call('HSET', name('s', id), 'j', row[1])
redis.call('SET', name('l', id), mine, 'PX', ARGV[5])
return {'begun', tostring(fence), interrupted}
