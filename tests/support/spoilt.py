"""Damages bytes and videos, from a seed."""

from __future__ import annotations

import struct
from random import Random


def spoil_bytes(random: Random, content: bytes, most: int = 20) -> bytes:
    """Changes, inserts, removes and repeats bytes."""
    spoilt = bytearray(content)
    for _ in range(random.randint(1, most)):
        place = random.randrange(len(spoilt) + 1)
        choice = random.randrange(4)
        if choice == 0 and place < len(spoilt):
            spoilt[place] ^= 1 << random.randrange(8)
        elif choice == 1:
            spoilt[place:place] = random.randbytes(random.randint(1, 8))
        elif choice == 2:
            del spoilt[place : place + random.randint(1, 8)]
        else:
            spoilt[place:place] = spoilt[place : place + random.randint(1, 40)]
    return bytes(spoilt)


def spoil_video(random: Random, clip: bytes) -> bytes:
    """Flips bits, cuts, swaps or resizes boxes, zeroes, repeats, or appends garbage; the first bytes stay."""
    video = bytearray(clip)
    choice = random.randrange(7)
    if choice == 0:
        for place in random.choices(range(12, len(video)), k=random.randint(1, 200)):
            video[place] ^= 1 << random.randrange(8)
    elif choice == 1:
        del video[random.randrange(12, len(video)) :]
    elif choice == 2:
        boxes = _boxes(clip)
        random.shuffle(boxes)
        video = bytearray(b"".join(boxes))
    elif choice == 3:
        video += random.randbytes(random.randint(1, 100_000))
    elif choice == 4:
        begin = random.randrange(12, len(video))
        count = random.randint(1, len(video) - begin)
        video[begin : begin + count] = bytes(count)
    elif choice == 5:
        # A number of a header, such as the length of a table or a box.
        place = random.randrange(12, len(video) - 4)
        video[place : place + 4] = struct.pack(">I", random.choice([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1]))
    else:
        begin = random.randrange(12, len(video))
        video[begin:begin] = clip[random.randrange(len(clip)) :][:100_000]
    return bytes(video)


def _boxes(clip: bytes) -> list[bytes]:
    """The outermost boxes of an MP4; other files are cut anywhere."""
    boxes, begin = [], 0
    while begin < len(clip):
        size = int.from_bytes(clip[begin : begin + 4], "big") if clip[4:8] == b"ftyp" else len(clip) // 5
        size = max(8, size)
        boxes.append(clip[begin : begin + size])
        begin += size
    return boxes
