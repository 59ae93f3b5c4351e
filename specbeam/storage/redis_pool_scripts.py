"""The Lua scripts of the tree pool in Redis.

Keys of a pool; SCOPE is TENANT.FINGERPRINT, OWNER and FINGERPRINT are digests:

    specbeam:pool:trees:{SCOPE}:KEY        hash    owner -> time of writing (8 bytes), blob
    specbeam:pool:keys:{SCOPE}             zset    key -> when it was last written
    specbeam:pool:owner:{TENANT}:OWNER     zset    "FINGERPRINT KEY" -> when the owner wrote there
    specbeam:pool:gone:{TENANT}:OWNER      string  when the user was deleted

Times are microseconds since 1970-01-01 UTC, made to grow strictly within a scope, so that they
are an order as well; that of a deletion is in milliseconds.

The scripts touch keys whose names they derive from what they read, which a single Redis allows
(also with replicas). On a Redis Cluster they would fail: there the keys of a scope are in one
slot, as their hash tag says, but those of an owner and of a history are in others.

Members of at most 64 bytes keep an owner's small zset compact: 350 bytes per tree, measured.

Everything physically there is in its owner's zset, because that outlives it: a tree is read for
the maximal age after it was written, and is gone, with its hash, at most as long again later.
"""

from typing import Final

# A script that cleans up holds up everybody: it leaves the rest to the next one.
MOST_EVICTIONS: Final = 1000

_SHARED: Final = r"""
local function hash_of(scope, key) return 'specbeam:pool:trees:{' .. scope .. '}:' .. key end
local function keys_of(scope) return 'specbeam:pool:keys:{' .. scope .. '}' end
local function index_of(scope, owner)
  return 'specbeam:pool:owner:{' .. string.match(scope, '^[^.]*') .. '}:' .. owner
end
local function entry_of(scope, key) return string.match(scope, '[^.]*$') .. ' ' .. key end

local function failed(reply) return type(reply) == 'table' and reply.err ~= nil end

local function written_us(value)
  if #value < 8 then return 0 end
  return (struct.unpack('>I8', value))
end

-- Takes one tree away. A value that is no hash is of use to nobody and goes, too.
local function drop(scope, key, owner)
  local hash = hash_of(scope, key)
  local removed = redis.pcall('HDEL', hash, owner)
  if failed(removed) then removed = redis.call('UNLINK', hash) end
  if redis.call('EXISTS', hash) == 0 then redis.call('ZREM', keys_of(scope), key) end
  redis.call('ZREM', index_of(scope, owner), entry_of(scope, key))
  return removed
end

local function evict(scope, key)
  local owners = redis.pcall('HKEYS', hash_of(scope, key))
  if failed(owners) then owners = {} end
  for _, owner in ipairs(owners) do
    redis.call('ZREM', index_of(scope, owner), entry_of(scope, key))
  end
  redis.call('UNLINK', hash_of(scope, key))
  redis.call('ZREM', keys_of(scope), key)
end

local function drop_entry(tenant, entry, owner)
  local cut = string.find(entry, ' ', 1, true)
  local scope = tenant .. '.' .. string.sub(entry, 1, cut - 1)
  return drop(scope, string.sub(entry, cut + 1), owner)
end
"""

# KEYS: the zset of the scope's keys, and for a named owner its zset and its tombstone.
# ARGV: scope, owner, blob, started (ms), now (us), trees per key, most keys, most evictions,
# maximal age (ms), then the keys.
ADD: Final = (
    _SHARED
    + r"""
local scope, owner, blob = ARGV[1], ARGV[2], ARGV[3]
local started_ms, now_us = tonumber(ARGV[4]), tonumber(ARGV[5])
local trees_per_key, max_keys = tonumber(ARGV[6]), tonumber(ARGV[7])
local most_evictions, max_age_ms = tonumber(ARGV[8]), tonumber(ARGV[9])
local oldest = now_us - max_age_ms * 1000
local all_keys, index, tombstone = KEYS[1], KEYS[2], KEYS[3]

if tombstone then
  local deleted_ms = redis.call('GET', tombstone)
  if deleted_ms and started_ms <= tonumber(deleted_ms) then return 0 end
end

local function trim(key)
  local stored = redis.call('HGETALL', hash_of(scope, key))
  local trees = {}
  for i = 1, #stored, 2 do
    trees[#trees + 1] = {owner = stored[i], written = written_us(stored[i + 1])}
  end
  table.sort(trees, function(a, b) return a.written > b.written end)
  for place, tree in ipairs(trees) do
    if place > trees_per_key or tree.written < oldest then drop(scope, key, tree.owner) end
  end
end

local last = redis.call('ZREVRANGE', all_keys, 0, 0, 'WITHSCORES')
local written = math.max(now_us, tonumber(last[2] or 0) + 1)
for i = 10, #ARGV do
  local key = ARGV[i]
  local hash = hash_of(scope, key)
  -- First of all writes: a full Redis refuses this one, and nothing once something is written.
  redis.call('ZADD', all_keys, string.format('%.0f', written), key)
  if index then
    redis.call('ZADD', index, string.format('%.0f', written), entry_of(scope, key))
  end
  if failed(redis.pcall('HLEN', hash)) then redis.call('UNLINK', hash) end
  redis.call('HSET', hash, owner, struct.pack('>I8', written) .. blob)
  redis.call('PEXPIRE', hash, max_age_ms)
  trim(key)
  written = written + 1
end

local aged = redis.call(
  'ZRANGEBYSCORE', all_keys, '-inf', string.format('(%.0f', oldest), 'LIMIT', 0, most_evictions)
for _, key in ipairs(aged) do evict(scope, key) end
local excess = math.min(redis.call('ZCARD', all_keys) - max_keys, most_evictions)
if excess > 0 then
  for _, key in ipairs(redis.call('ZRANGE', all_keys, 0, excess - 1)) do evict(scope, key) end
end
redis.call('PEXPIRE', all_keys, max_age_ms)
if index then
  local forgotten = string.format('(%.0f', oldest - max_age_ms * 1000)
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', forgotten)) do
    drop_entry(string.match(scope, '^[^.]*'), entry, owner)
  end
  redis.call('PEXPIRE', index, 2 * max_age_ms)
end
return 1
"""
)

# KEYS: the owner's zset, its tombstone, then more keys that are to go.
# ARGV: tenant, owner, now (ms), life of the tombstone (ms). Returns how many things were removed.
# Read first: where the zset is broken, nothing is removed and nothing acknowledged. Removing is
# allowed to a full Redis, and so is what a script writes afterwards: the tombstone comes last.
DELETE: Final = (
    _SHARED
    + r"""
local entries = redis.call('ZRANGE', KEYS[1], 0, -1)
local removed = 0
for _, entry in ipairs(entries) do removed = removed + drop_entry(ARGV[1], entry, ARGV[2]) end
redis.call('UNLINK', KEYS[1])
for i = 3, #KEYS do removed = removed + redis.call('UNLINK', KEYS[i]) end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return removed
"""
)

# KEYS: a history's list of events, or none. ARGV: scope, most events, the owner's own key or
# nothing, "derive" or "given", the keys given. Returns events, their total and, for each key
# looked at, its name and its hash, false where that is none. The list must be readable; a
# broken pool must not keep its reader from the history.
READ: Final = r"""
local scope, limit, own, how = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]

local function part(item_id)
  local plain = #item_id <= 64 and string.sub(item_id, 1, 1) ~= '#'
    and not string.find(item_id, '\31', 1, true)
  return plain and item_id or '#' .. redis.sha1hex(item_id)
end

local function derived_keys(values)
  local parts = {}
  for _, value in ipairs(values) do
    local valid, event = pcall(cjson.decode, value)
    if valid and type(event) == 'table' and type(event[1]) == 'string' then
      parts[#parts + 1] = part(event[1])
    end
  end
  if #parts == 2 then return {'i:' .. parts[1] .. '\31' .. parts[2], 'i:' .. parts[2]} end
  return #parts == 1 and {'i:' .. parts[1]} or {}
end

local events, total, keys = {}, 0, {}
if own ~= '' then keys[1] = own end
for i = 5, #ARGV do keys[#keys + 1] = ARGV[i] end
if KEYS[1] then
  events = redis.call('LRANGE', KEYS[1], -limit, -1)
  total = redis.call('LLEN', KEYS[1])
  if how == 'derive' then
    for _, key in ipairs(derived_keys(redis.call('LRANGE', KEYS[1], -2, -1))) do
      keys[#keys + 1] = key
    end
  end
end
local found = {}
for i, key in ipairs(keys) do
  local trees = redis.pcall('HGETALL', 'specbeam:pool:trees:{' .. scope .. '}:' .. key)
  found[i] = {key, trees.err == nil and trees}
end
return {events, total, found}
"""

# ARGV: scope, oldest time that counts (us), keys. Returns keys with a tree, trees, bytes.
COUNT: Final = (
    _SHARED
    + r"""
local keys, trees, bytes = 0, 0, 0
for i = 3, #ARGV do
  local values = redis.pcall('HVALS', hash_of(ARGV[1], ARGV[i]))
  local here = 0
  for _, value in ipairs(failed(values) and {} or values) do
    if written_us(value) >= tonumber(ARGV[2]) then
      here = here + 1
      bytes = bytes + #value - 8
    end
  end
  trees = trees + here
  keys = keys + math.min(here, 1)
end
return {keys, trees, bytes}
"""
)
