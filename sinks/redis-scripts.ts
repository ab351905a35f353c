/** What the sink does to keys in Redis, each script on the keys of one slot, and each safe to run twice. */
import { script } from '../redis/script.ts'

/**
 * Sets or removes keys, each only by a row that is newer than the last. KEYS: by turns a key and its mark, which remembers
 * the version. ARGV, for each: what ('string' or 'hash'), version, expires at, forget at, count of values (-1 removes), values.
 * A key without a mark that another program keeps something else in is left alone, and named in the answer.
 */
export const KEEP = script(`
local refused = {}
local at = 1
for i = 1, #KEYS, 2 do
  local key, mark = KEYS[i], KEYS[i + 1]
  local what, version, expires, forget = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local count = tonumber(ARGV[at + 4])
  local from, last = at + 5, at + 4 + math.max(count, 0)
  at = last + 1
  local known = redis.call('GET', mark)
  local other = 'none'
  if not known then other = redis.call('TYPE', key).ok end
  if other ~= 'none' and other ~= what then
    refused[#refused + 1] = (i - 1) / 2
    refused[#refused + 1] = other
  elseif not known or known < version then
    if forget == '' then redis.call('SET', mark, version) else redis.call('SET', mark, version, 'PXAT', forget) end
    if what == 'string' and count == 1 then
      if expires == '' then redis.call('SET', key, ARGV[from]) else redis.call('SET', key, ARGV[from], 'PXAT', expires) end
    else
      redis.call('DEL', key)
      while from <= last do
        local to = math.min(last, from + 3999)
        redis.call('HSET', key, unpack(ARGV, from, to))
        from = to + 1
      end
      if count > 0 and expires ~= '' then redis.call('PEXPIREAT', key, expires) end
    end
  end
end
return refused`)

/** Lengthens the life of a key to a time, and never shortens it; what lives for ever already goes on so. */
const LIVE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function live(key, till, fresh)
  local left = redis.call('PTTL', key)
  if till ~= '' and (fresh or left >= 0 and tonumber(till) > now + left) then redis.call('PEXPIREAT', key, till) end
end`

/**
 * Sets the scores of a sorted set's members, or removes them, each only by a row that is newer than the member's last.
 * KEYS: the set, a hash of versions, a sorted set of the removed members by when they may be forgotten. ARGV: expires at, forget at;
 * then for each row: member, version, score ('' removes), when a removal may be forgotten.
 */
export const RANK = script(`${LIVE}
local other = redis.call('TYPE', KEYS[1]).ok
if other ~= 'none' and other ~= 'zset' then return other end
local fresh = redis.call('EXISTS', KEYS[2]) == 0
for at = 3, #ARGV, 4 do
  local member, version, score = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local known = redis.call('HGET', KEYS[2], member)
  if not known or known < version then
    redis.call('HSET', KEYS[2], member, version)
    if score == '' then
      redis.call('ZREM', KEYS[1], member)
      redis.call('ZADD', KEYS[3], ARGV[at + 3], member)
    else
      redis.call('ZADD', KEYS[1], score, member)
      redis.call('ZREM', KEYS[3], member)
    end
  end
end
local gone = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 100)
if #gone > 0 then
  redis.call('HDEL', KEYS[2], unpack(gone))
  redis.call('ZREM', KEYS[3], unpack(gone))
end
live(KEYS[1], ARGV[1], fresh or other == 'none')
live(KEYS[2], ARGV[2], fresh)
live(KEYS[3], ARGV[2], fresh or redis.call('PTTL', KEYS[3]) == -1)
return ''`)

/**
 * Appends rows to a stream, those that this producer has not appended yet. KEYS: the stream, a hash of each producer's last
 * version. ARGV: producer, expires at, forget at, the length to cut it to (''); then for each row: version, count of values, values.
 */
export const APPEND = script(`${LIVE}
local other = redis.call('TYPE', KEYS[1]).ok
if other ~= 'none' and other ~= 'stream' then return other end
local fresh = redis.call('EXISTS', KEYS[2]) == 0
local known = redis.call('HGET', KEYS[2], ARGV[1]) or ''
local at = 5
while at <= #ARGV do
  local version, count = ARGV[at], tonumber(ARGV[at + 1])
  if version > known then
    if ARGV[4] == '' then redis.call('XADD', KEYS[1], '*', unpack(ARGV, at + 2, at + 1 + count))
    else redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', unpack(ARGV, at + 2, at + 1 + count)) end
    known = version
  end
  at = at + 2 + count
end
redis.call('HSET', KEYS[2], ARGV[1], known)
live(KEYS[1], ARGV[2], fresh or other == 'none')
live(KEYS[2], ARGV[3], fresh)
return ''`)

/**
 * Publishes messages, those that this producer has not published yet and that are still wanted. KEYS: a hash of each
 * producer's last version on the channel. ARGV: channel, producer, forget at; then for each row: version, expires at, message.
 */
export const PUBLISH = script(`${LIVE}
local fresh = redis.call('EXISTS', KEYS[1]) == 0
local known = redis.call('HGET', KEYS[1], ARGV[2]) or ''
for at = 4, #ARGV, 3 do
  local version, expires = ARGV[at], ARGV[at + 1]
  if version > known then
    redis.call('HSET', KEYS[1], ARGV[2], version)
    if expires == '' or tonumber(expires) > now then redis.call('PUBLISH', ARGV[1], ARGV[at + 2]) end
    known = version
  end
end
live(KEYS[1], ARGV[3], fresh)
return ''`)
