-- What all scripts share: names of keys, and how a session is taken out. ARGV[1] is the prefix of all keys.
--
-- PREFIX:s:ID   hash: v version, r sealed record, e end, k1 and k2 index keys, f fence, d fence denied, j version sent
-- PREFIX:l:ID   who is refreshing it, with a time to live
-- PREFIX:i:KEY  set of ids: one user's, or one session's of the provider
-- PREFIX:used   sorted set of ids by last use, in seconds
-- PREFIX:ends   sorted set of ids by end, in seconds
-- PREFIX:news   channel: "E" and an id that has ended, "C" and an id that has changed
local prefix = ARGV[1]

local function name(kind, id)
  return prefix .. ':' .. kind .. ':' .. id
end

-- In how many seconds a record goes by itself, should every process have gone for good: its tokens outlive the session
-- by an hour. The clock is that of whoever asks.
local function forgotten(ends, now)
  return string.format('%.0f', math.max(0, math.min(tonumber(ends) - tonumber(now), 3e9)) + 3600)
end

-- Adds a session to those of an index key, which are forgotten with the last of them.
local function index(key, id, seconds)
  if key ~= '' then
    redis.call('SADD', name('i', key), id)
    if redis.call('TTL', name('i', key)) < tonumber(seconds) then
      redis.call('EXPIRE', name('i', key), seconds)
    end
  end
end

-- Takes a session out everywhere and tells all processes; its sealed record, or false when there was none.
local function take(id)
  local row = redis.call('HMGET', name('s', id), 'r', 'k1', 'k2')
  redis.call('ZREM', prefix .. ':used', id)
  redis.call('ZREM', prefix .. ':ends', id)
  if not row[1] then
    return false
  end
  redis.call('DEL', name('s', id), name('l', id))
  for at = 2, 3 do
    if row[at] and row[at] ~= '' then
      redis.call('SREM', name('i', row[at]), id)
    end
  end
  redis.call('PUBLISH', prefix .. ':news', 'E' .. id)
  return row[1]
end

