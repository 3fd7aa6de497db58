package redis

import "github.com/redis/rueidis"

// With #! a script does not run at a server that may not write, or has no memory left, rather than up to its first write (Redis 7.0).

// acquire: KEYS stream, meta, lease, hints; ARGV token, lease in ms, the last entry as the caller knows it, the highest epoch it has seen,
// TTL in ms, name. It answers HELD and the holder; POS and the last entry; or OK, the epoch, and meta as it was.
var acquire = rueidis.NewLuaScript(`#!lua
local held = redis.call('GET', KEYS[3])
if held and held ~= ARGV[1] then return {'HELD', held} end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local last = newest[1] and newest[1][1] or '0-0'
if last ~= ARGV[3] then return {'POS', last} end
local now = redis.call('TIME')
local epoch = math.max(tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000), tonumber(ARGV[4]) + 1)
local e = string.format('%.0f', epoch)
local meta = redis.call('HMGET', KEYS[2], 'pos', 'state', 'past')
redis.call('XADD', KEYS[1], e .. '-0', 'p', last)
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[2], 'pos', e .. '-0')
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 2000, '*', 's', ARGV[6], 'w', ARGV[1])
redis.call('PEXPIRE', KEYS[4], ARGV[5])
return {'OK', e, meta[1], meta[2], meta[3]}
`)

// appending: KEYS stream, meta, keys, hints; ARGV the entry that it comes after, TTL in ms, name, token, the oldest entry to keep or ”,
// whether there is a state, the state, whether there is a past, the past, how many keys are let go of, these, and for each entry
// its id, t, i, k, d, p, x, where x is k for one that is no entry, but the newest of its key. It answers OK, or the last entry if that is another one.
var appending = rueidis.NewLuaScript(`#!lua
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local last = newest[1] and newest[1][1] or '0-0'
if last ~= ARGV[1] then return last end
local at = 11
for i = 1, tonumber(ARGV[10]) do
  redis.call('HDEL', KEYS[3], ARGV[at])
  at = at + 1
end
local grown = false
while at < #ARGV do
  local id, t, i, k, d, p, x = ARGV[at], ARGV[at+1], ARGV[at+2], ARGV[at+3], ARGV[at+4], ARGV[at+5], ARGV[at+6]
  at = at + 7
  if x ~= 'k' then
    grown = true
    last = id
  end
  if p ~= '' then
    redis.call('XADD', KEYS[1], id, 'p', p)
  elseif x == 'k' then
    -- for the hash alone
  elseif x ~= '' then
    redis.call('XADD', KEYS[1], id, 't', t, 'x', x)
  elseif ARGV[8] == '1' and at > #ARGV then
    redis.call('XADD', KEYS[1], id, 't', t, 'i', i, 'k', k, 'd', d, 'h', '1')
  else
    redis.call('XADD', KEYS[1], id, 't', t, 'i', i, 'k', k, 'd', d)
  end
  if k ~= '' then
    redis.call('HSET', KEYS[3], k, id .. ' ' .. t .. ' ' .. #i .. ' ' .. i .. d)
  end
end
if ARGV[5] ~= '' then redis.call('XTRIM', KEYS[1], 'MINID', ARGV[5]) end
redis.call('HSET', KEYS[2], 'pos', last)
if ARGV[6] == '1' then redis.call('HSET', KEYS[2], 'state', ARGV[7]) end
if ARGV[8] == '1' then redis.call('HSET', KEYS[2], 'past', ARGV[9]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
if grown then
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', 2000, '*', 's', ARGV[3], 'w', ARGV[4])
  redis.call('PEXPIRE', KEYS[4], ARGV[2])
end
return 'OK'
`)

// keeping: KEYS of each stream itself, meta and keys; ARGV TTL in ms, the last entry of each as its holder knows it. It answers which are
// others, counted from 0. What of the rest the store has is kept for another TTL.
var keeping = rueidis.NewLuaScript(`#!lua
local out = {}
for i = 2, #ARGV do
  local at = 3 * (i - 2)
  local newest = redis.call('XREVRANGE', KEYS[at+1], '+', '-', 'COUNT', 1)
  local last = newest[1] and newest[1][1] or '0-0'
  if last ~= ARGV[i] then
    out[#out+1] = i - 2
  else
    redis.call('HSET', KEYS[at+2], 'pos', last)
    for k = at + 1, at + 3 do redis.call('PEXPIRE', KEYS[k], ARGV[1]) end
  end
end
return out
`)

// loading: KEYS stream, meta, keys, lease; ARGV the entry after which to begin. It answers the entries, meta, keys and the holder, if there is
// one, as they are at one moment.
var loading = rueidis.NewLuaScriptReadOnly(`#!lua flags=no-writes
return {redis.call('XRANGE', KEYS[1], ARGV[1], '+'), redis.call('HMGET', KEYS[2], 'pos', 'state', 'past'), redis.call('HGETALL', KEYS[3]),
  redis.call('GET', KEYS[4])}
`)

// renewing: KEYS leases; ARGV lease in ms, a token for each. It answers which are held by others, counted from 0.
// The time of a lease can be set when there is no memory left, a lease that is gone cannot.
var renewing = rueidis.NewLuaScript(`#!lua flags=allow-oom
local out = {}
for i, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  if held == ARGV[i+1] then
    redis.call('PEXPIRE', key, ARGV[1])
  elseif held then
    out[#out+1] = i - 1
  else
    redis.pcall('SET', key, ARGV[i+1], 'PX', ARGV[1])
  end
end
return out
`)

// releasing: KEYS lease, hints, stream, meta, keys; ARGV token, name, TTL in ms.
var releasing = rueidis.NewLuaScript(`#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
for i = 3, 5 do redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', 2000, '*', 's', ARGV[2], 'w', ARGV[1], 'x', '1')
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
`)
