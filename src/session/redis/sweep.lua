-- Ends sessions whose time is over. ARGV: prefix, last use at which a session is over, now, how many at most
-- Answers how many there were to look at, then id, record, id, record …
local function over(set, until_)
  return redis.call('ZRANGEBYSCORE', prefix .. ':' .. set, '-inf', until_, 'LIMIT', 0, ARGV[4])
end
local looked, gone = 0, {0}
for _, ids in ipairs({over('used', ARGV[2]), over('ends', ARGV[3])}) do
  for _, id in ipairs(ids) do
    looked = looked + 1
    local record = take(id)
    if record then
      gone[#gone + 1] = id
      gone[#gone + 1] = record
    end
  end
end
gone[1] = looked
return gone
