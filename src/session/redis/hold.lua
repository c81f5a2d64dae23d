-- What the holder of a lease says while and after it has sent the refresh token.
-- ARGV: prefix, id, lease, fence, time to live in ms, word: 'renew', 'deny' or 'leave', and 1 when the
-- token may have been sent before this lease. Answers 1 while it is the holder.
local id, word = ARGV[2], ARGV[6]
if redis.call('GET', name('l', id)) ~= ARGV[3] then
  return 0
end
if word == 'leave' then
  -- The provider has not renewed the token, or did not say so.
  redis.call('DEL', name('l', id))
  if ARGV[7] ~= '1' then
    redis.call('HDEL', name('s', id), 'j')
  end
else
  redis.call('PEXPIRE', name('l', id), ARGV[5])
end
if word == 'deny' and redis.call('EXISTS', name('s', id)) == 1 then
  redis.call('HSET', name('s', id), 'd', ARGV[4])
end
return 1
