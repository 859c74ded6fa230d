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

# Claims the Idempotency-Key, stores the record and adds the job, with docket's own script. Replies with the id of the
# job that has the key already, or with an empty text where a sweep has taken the upload for abandoned.
ACCEPT = Script(
    f"""
local function schedule(KEYS, ARGV)
{SCHEDULE.lua}
end

local record_key, request_key, swept_key = KEYS[1], KEYS[2], KEYS[3]
local video_id, record, accepted, has_request = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local record_prefix, kept_milliseconds = ARGV[5], tonumber(ARGV[6])

if redis.call('EXISTS', swept_key) == 1 then return '' end
if has_request then
    local first = redis.call('GET', request_key)
    if first and first ~= video_id and redis.call('EXISTS', record_prefix .. first) == 1 then return first end
    redis.call('SET', request_key, video_id)
    redis.call('HSET', record_key, 'request', request_key)
end
redis.call('HSET', record_key, 'record', record, 'accepted', accepted)
if kept_milliseconds > 0 then
    redis.call('HSET', record_key, 'ended', 'succeeded')
    redis.call('PEXPIRE', record_key, kept_milliseconds)
    if has_request then redis.call('PEXPIRE', request_key, kept_milliseconds) end
    return video_id
end
local keys, args = {{}}, {{}}
for i = 4, #KEYS do keys[#keys + 1] = KEYS[i] end
for i = 7, #ARGV do args[#args + 1] = ARGV[i] end
schedule(keys, args)
return video_id
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
    _STANDING
    + """
if stands == 'mine' then
    redis.call('HSET', KEYS[1], 'ended', ARGV[3])
    expire(KEYS[1], ARGV[4])
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

# Notes that a job was deleted, so that nothing brings it back, and forgets it.
FORGET = Script(
    """
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
local request = redis.call('HGET', KEYS[1], 'request')
if request and redis.call('GET', request) == ARGV[1] then redis.call('DEL', request) end
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
