"""Steps in Redis that must happen whole or not at all, in Lua, because a process may die between two commands.

A job's record is a hash with these fields:

- `record`: the request, as JSON
- `request`: the key of its `Idempotency-Key`, if it has one
- `accepted`: seconds since the epoch, by the clock of Redis
- `begun`, `crashes`: attempts, see `Attempts`
- `lease`: a word of the worker that has the job; the word of another means that it has lost it
- `running`: 1 while a worker works on the job, and after it died
- `ended`: how the job has ended
- `told`: 1 once its webhook is queued
- `graph`: the id of the video whose graph answers for this one, if it is another's

Beside the records there are sorted sets: for each owner the videos that wait or run, by the time at which they were
accepted, and those that are kept, by the time at which that ends; and for each graph that is shared the videos that it
answers for, by the time at which that ends.
"""

from __future__ import annotations

from typing import Any

from docket import _execution_scripts
from redis.commands.core import AsyncScript

SCHEDULE = _execution_scripts._schedule  # docket's own script that adds a job


class Script:
    """A Lua script for a real Redis and for a memory queue alike."""

    def __init__(self, text: str) -> None:
        # The script wants bytes to hash, and a text to load.
        self._script = AsyncScript(None, text.encode())  # type: ignore[arg-type]
        self._script.script = text

    async def run(self, redis: Any, keys: list[str], args: list[Any]) -> Any:
        """Runs it on a client of docket's. Raises RedisError."""
        texts = [arg if isinstance(arg, bytes) else str(arg) for arg in args]  # a memory queue takes no numbers
        return await self._script(keys=keys, args=texts, client=redis)


# The standing of a worker that has taken a job. A record that is missing was deleted, unless Redis has lost its data:
# then the epoch, a word that somebody writes when there is none, is another.
_STANDING = """
local function standing(record_key, epoch_key, lease, epoch)
    if redis.call('EXISTS', record_key) == 0 then
        if redis.call('GET', epoch_key) == epoch then return 'deleted' end
        return 'lost'
    end
    if redis.call('HGET', record_key, 'lease') ~= lease then return 'taken' end
    return 'mine'
end

local function expire(record_key, milliseconds)
    redis.call('PEXPIRE', record_key, milliseconds)
    local request = redis.call('HGET', record_key, 'request')
    if request then redis.call('PEXPIRE', request, milliseconds) end
end

local stands = standing(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
"""

# Looks whether an owner may have one more video. Replies with `room`, or with what is full, and how full it is.
_ROOM = """
local function room(queue_keys, owner_keys, now, most, share, most_kept, record_prefix, is_job)
    local active_key, kept_key = owner_keys[1], owner_keys[2]
    redis.call('ZREMRANGEBYSCORE', kept_key, '-inf', now)
    local active = redis.call('ZCARD', active_key)
    local videos = active + redis.call('ZCARD', kept_key)
    if videos >= most_kept then return {'kept', videos} end
    if not is_job then return {'room'} end
    local length = redis.call('XLEN', queue_keys[1]) + redis.call('ZCARD', queue_keys[2])
    if length >= most then return {'full', length} end
    local places = math.floor(share * (most - length + math.min(active, length)))
    if active < math.max(1, places) then return {'room'} end
    -- A worker of another version may have ended some of them without a word.
    for _, video_id in ipairs(redis.call('ZRANGE', active_key, 0, 19)) do
        local record_key = record_prefix .. video_id
        if redis.call('EXISTS', record_key) == 0 or redis.call('HGET', record_key, 'ended') then
            redis.call('ZREM', active_key, video_id)
        end
    end
    return {'share', active}
end
"""

_KEEP = """
local function keep(set_key, video_id, now, milliseconds)
    redis.call('ZADD', set_key, tostring(now + milliseconds / 1000), video_id)
    redis.call('PEXPIRE', set_key, milliseconds)
end
"""

ROOM = Script(
    _ROOM
    + """
local numbers = {}
for i = 1, 4 do numbers[i] = tonumber(ARGV[i]) end
return room({KEYS[1], KEYS[2]}, {KEYS[3], KEYS[4]}, numbers[1], numbers[2], numbers[3], numbers[4], ARGV[5], true)
"""
)

# Claims the Idempotency-Key, stores the record and adds the job, with docket's own script, or notes that a graph
# answers. Replies with `accepted`; `repeated` and the id of the job that has the key already; `swept` where a sweep has
# taken the upload for abandoned; `gone` where the graph was deleted; or as `room` does.
ACCEPT = Script(
    "local function schedule(KEYS, ARGV)\n"
    + SCHEDULE.lua
    + "\nend\n"
    + _ROOM
    + _KEEP
    + """
local record_key, request_key, swept_key = KEYS[1], KEYS[2], KEYS[3]
local queue_keys, owner_keys = {KEYS[4], KEYS[5]}, {KEYS[6], KEYS[7]}
local graph_record_key, shared_key = KEYS[8], KEYS[9]
local video_id, record, now, has_request, record_prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5]
local most, share, most_kept = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local milliseconds, graph_id = tonumber(ARGV[9]), ARGV[10]
local is_job = graph_id == ''

if redis.call('EXISTS', swept_key) == 1 then return {'swept'} end
if has_request then
    local first = redis.call('GET', request_key)
    if first and first ~= video_id and redis.call('EXISTS', record_prefix .. first) == 1 then
        return {'repeated', first}
    end
end
if not is_job then
    redis.call('ZREMRANGEBYSCORE', shared_key, '-inf', now)
    local is_made = redis.call('HGET', graph_record_key, 'ended')
    if not is_made and redis.call('ZCARD', shared_key) == 0 then return {'gone'} end
end
local found = room(queue_keys, owner_keys, tonumber(now), most, share, most_kept, record_prefix, is_job)
if found[1] ~= 'room' then return found end
if has_request then
    redis.call('SET', request_key, video_id)
    redis.call('HSET', record_key, 'request', request_key)
end
redis.call('HSET', record_key, 'record', record, 'accepted', now)
if not is_job then
    redis.call('HSET', record_key, 'ended', 'succeeded', 'graph', graph_id)
    redis.call('PEXPIRE', record_key, milliseconds)
    if has_request then redis.call('PEXPIRE', request_key, milliseconds) end
    keep(owner_keys[2], video_id, tonumber(now), milliseconds)
    keep(shared_key, video_id, tonumber(now), milliseconds)
    return {'accepted'}
end
redis.call('ZADD', owner_keys[1], now, video_id)
local keys, args = {}, {}
for i = 10, #KEYS do keys[#keys + 1] = KEYS[i] end
for i = 11, #ARGV do args[#args + 1] = ARGV[i] end
schedule(keys, args)
return {'accepted'}
"""
)

# Gives a job to a worker. Replies with the epoch and the fields of the record, of which there are none where there is
# no record.
TAKE = Script(
    """
if not redis.call('GET', KEYS[2]) then redis.call('SET', KEYS[2], ARGV[2]) end
if redis.call('EXISTS', KEYS[1]) == 1 and not redis.call('HGET', KEYS[1], 'ended') then
    redis.call('HSET', KEYS[1], 'lease', ARGV[1])
    if not redis.call('HGET', KEYS[1], 'accepted') then redis.call('HSET', KEYS[1], 'accepted', ARGV[3]) end
end
return {redis.call('GET', KEYS[2]), redis.call('HGETALL', KEYS[1])}
"""
)

LOOK = Script(_STANDING + "return stands")

# Shows the job as running, once the worker knows that it can do it.
SHOW = Script(
    _STANDING
    + """
if stands == 'mine' then
    redis.call('HSET', KEYS[1], 'running', '1')
    redis.call('PUBLISH', KEYS[3], ARGV[3])
end
return stands
"""
)

BEGIN = Script(
    _STANDING
    + """
if stands == 'mine' then redis.call('HINCRBY', KEYS[1], 'begun', 1) end
return stands
"""
)

# Takes an attempt back, if ARGV[3] is 1, and lets go of the job, if ARGV[4] is.
RELEASE = Script(
    _STANDING
    + """
if stands == 'mine' then
    if ARGV[3] == '1' then redis.call('HINCRBY', KEYS[1], 'begun', -1) end
    if ARGV[4] == '1' then redis.call('HDEL', KEYS[1], 'lease', 'running') end
end
return stands
"""
)

END = Script(
    _KEEP
    + _STANDING
    + """
if stands == 'mine' then
    local video_id, now, milliseconds = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
    redis.call('HSET', KEYS[1], 'ended', ARGV[6])
    expire(KEYS[1], milliseconds)
    redis.call('ZREM', KEYS[4], video_id)
    keep(KEYS[5], video_id, now, milliseconds)
end
return stands
"""
)

# Adds to a number of a record that exists.
COUNT = Script(
    """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HINCRBY', KEYS[1], ARGV[1], 1) end
return 1
"""
)

# Notes that a job was deleted, so that nothing brings it back, and forgets it. Replies with 1 where its graph answers
# for other videos.
FORGET = Script(
    """
local record_key, deleted_key, active_key, kept_key, graph_record_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local shared_key = KEYS[6]
local video_id, now = ARGV[1], ARGV[2]
redis.call('ZADD', deleted_key, now, video_id)
local request = redis.call('HGET', record_key, 'request')
if request and redis.call('GET', request) == video_id then redis.call('DEL', request) end
redis.call('DEL', record_key)
redis.call('ZREM', active_key, video_id)
redis.call('ZREM', kept_key, video_id)
redis.call('ZREM', shared_key, video_id)
redis.call('ZREMRANGEBYSCORE', shared_key, '-inf', now)
if redis.call('EXISTS', graph_record_key) == 1 or redis.call('ZCARD', shared_key) > 0 then return 1 end
return 0
"""
)

# Forgets a video whose graph is too old. Replies with 0, and does nothing, where the graph answers for other videos.
RETIRE = Script(
    """
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[1])
if redis.call('ZCARD', KEYS[2]) > 0 then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""
)

# Replies with 1 where no job needs an upload, and keeps a job from being accepted for it from then on.
ABANDON = Script(
    """
if redis.call('EXISTS', KEYS[1]) == 1 then
    if redis.call('HGET', KEYS[1], 'ended') then return 1 end
    return 0
end
redis.call('SET', KEYS[2], '1', 'EX', ARGV[1])
return 1
"""
)
