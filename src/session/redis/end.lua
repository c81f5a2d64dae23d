-- Ends sessions. ARGV: prefix, id, id … Answers those that were there: id, record, id, record …
local gone = {}
for at = 2, #ARGV do
  local record = take(ARGV[at])
  if record then
    gone[#gone + 1] = ARGV[at]
    gone[#gone + 1] = record
  end
end
return gone
