-- Appends a group of events to the stream KEYS[1], and tells the channel KEYS[2]. Returns the entry's id.
local id = redis.call('XADD', KEYS[1], '0-*', 'e', ARGV[1])
redis.call('PUBLISH', KEYS[2], id)
return id
