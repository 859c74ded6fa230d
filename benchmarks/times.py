"""Damages the times of videos at random, and counts how many frames come back with their true time.

    .venv/bin/python -m benchmarks.times [--damages 200] [--seed 1] [--json]

Ten videos of 240 frames, in four containers, with and without reordered frames, with an even rate, an uneven one, and
pauses. Each damage is written into a copy of one of them: single frames, several, or whole stretches are stamped too
late or too early, by a tenth of a second to two hours; frames get the stamp of their neighbour; or the clock begins
again, which harms no frame. The service's reader reads the copy. A frame carries its number in its picture, so that a
frame with the time of another one is seen.

The program exits with 1 where under 99 % of the frames that were not damaged keep their true time to half a frame, or
where a frame is off by more than the worst damage to its video.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from service.video import EVERY_FRAME, DecodeLimits, Sampling, VideoReader

FRAMES = 240
LEAST_SHARE = 0.99
_BITS = 8  # of a frame's number
_WIDTH, _HEIGHT = 128, 64
_UNIT = Fraction(1, 90_000)  # seconds
_ROUNDING = 0.0011  # seconds to which Matroska rounds
_H264 = {"preset": "ultrafast", "g": "30"}

Times = NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True)
class Kind:
    """A kind of video.

    suffix: chooses the container.
    rate: frames per second, 0 for an uneven rate.
    reorders: frames are stored before others that are shown earlier.
    pauses: seconds of the pauses.
    """

    suffix: str
    rate: float
    reorders: bool
    codec: str = "libx264"
    pauses: tuple[float, ...] = ()

    def times(self, random: Random) -> Times:
        """Returns the true times of the frames."""
        steps = np.full(FRAMES - 1, 1 / self.rate) if self.rate else random.uniform(0.02, 0.3, FRAMES - 1)
        for pause, place in zip(self.pauses, random.choice(range(20, FRAMES - 20), len(self.pauses)), strict=True):
            steps[place] += pause
        return np.concatenate([[0.0], np.cumsum(steps)])

    @property
    def options(self) -> dict[str, str]:
        """The options of its encoder."""
        if self.codec == "libx264":
            return _H264 | {"bf": "3" if self.reorders else "0"}
        if self.codec == "libvpx-vp9":
            return {"deadline": "realtime", "cpu-used": "8", "g": "30"}
        return {"g": "12", "bf": "2" if self.reorders else "0"}


KINDS = (
    Kind("mp4", 25.0, reorders=False),
    Kind("mp4", 30.0, reorders=True),
    Kind("mp4", 25.0, reorders=True, pauses=(8.0, 5400.0)),
    Kind("mkv", 24.0, reorders=False),
    Kind("mkv", 29.97, reorders=True),
    Kind("mkv", 0.0, reorders=True),
    Kind("webm", 30.0, reorders=False, codec="libvpx-vp9"),
    Kind("ts", 25.0, reorders=False),
    Kind("ts", 30.0, reorders=True),
    Kind("ts", 25.0, reorders=True, codec="mpeg2video", pauses=(20.0,)),
)


class Damages:
    """Makes the times that a file states of those that are true."""

    def __init__(self, random: Random, kind: Kind) -> None:
        self._random = random
        # The edit list of an MP4 leaves out what is stamped earlier than the first frame: nothing shows it then.
        has_edit_list = kind.suffix == "mp4"
        self._signs, self._first = ([1], 1) if has_edit_list else ([-1, 1], 0)
        self.kinds = [self.one_frame, self.several_frames, self.a_stretch, self.twins]
        self.kinds += [] if has_edit_list else [self.clock_begins_again]

    def one_frame(self, true: Times) -> Times:
        """Stamps one frame wrongly."""
        return _moved(true, [int(self._random.integers(self._first, FRAMES))], self._amount())

    def several_frames(self, true: Times) -> Times:
        """Stamps up to twelve frames wrongly, each by another amount."""
        stated = true
        for place in self._random.choice(range(self._first, FRAMES), self._random.integers(2, 13), replace=False):
            stated = _moved(stated, [int(place)], self._amount())
        return stated

    def a_stretch(self, true: Times) -> Times:
        """Stamps up to a second of frames wrongly, all by the same amount."""
        length = int(self._random.integers(2, 30))
        begin = int(self._random.integers(1, FRAMES - length))
        return _moved(true, range(begin, begin + length), self._amount())

    def twins(self, true: Times) -> Times:
        """Gives up to six frames the stamp of the frame before or after."""
        stated = true.copy()
        for place in self._random.choice(range(1, FRAMES - 1), self._random.integers(1, 7), replace=False):
            stated[place] = true[place + self._random.choice([-1, 1])]
        return stated

    def clock_begins_again(self, true: Times) -> Times:
        """Has the clock begin again with 0 somewhere, as where two recordings were joined.

        Not just before a pause: two frames between a jump and a pause do not show that the jump lasts.
        """
        lasts = [place for place in range(20, FRAMES - 20) if true[place + 10] - true[place] < 10]
        place = int(self._random.choice(lasts))
        return np.concatenate([true[:place], true[place:] - true[place]])

    def _amount(self) -> float:
        """Returns a tenth of a second to two hours, late or early."""
        return float(self._random.choice(self._signs) * 10 ** self._random.uniform(-1, math.log10(7200)))


def _moved(times: Times, places: range | list[int], seconds: float) -> Times:
    stated = times.copy()
    stated[list(places)] += seconds
    return stated


def write_video(kind: Kind, times: Times, path: Path) -> None:
    """Writes a video whose frames carry their number."""
    with av.open(str(path), "w") as container:
        rate = Fraction(kind.rate or 10).limit_denominator(1001)
        stream: Any = container.add_stream(kind.codec, rate=rate, options=kind.options)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        stream.codec_context.time_base = _UNIT if kind.codec == "libx264" else 1 / rate
        unit = stream.codec_context.time_base
        for number, time in enumerate(times):
            bits = [number >> bit & 1 for bit in range(_BITS)]
            grey = np.repeat(np.array(bits, np.uint8) * 200 + 20, _WIDTH // _BITS)
            frame = av.VideoFrame.from_ndarray(np.tile(grey, (_HEIGHT, 1)), format="gray8")
            frame.time_base = unit
            frame.pts = round(time / unit)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_damaged(source: Path, path: Path, true: Times, stated: Times) -> None:
    """Copies a video with other times."""
    with av.open(str(source)) as reader, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        packets: list[Any] = [packet for packet in reader.demux(video=0) if packet.pts is not None]
        first = min(float(packet.pts * packet.time_base) for packet in packets)
        stamps = np.array([packet.pts for packet in packets])
        delay = (np.sort(stamps) - stamps).max()
        # A muxer wants presentation after decoding. Where frames are to be shown earlier, all others are shown later.
        early = min(0.0, float((stated - true).min()))
        for packet, decoded in zip(packets, (np.sort(stamps) - delay).tolist(), strict=True):
            number = int(np.abs(true - (float(packet.pts * packet.time_base) - first)).argmin())
            packet.pts += round((stated[number] - true[number] - early) / packet.time_base)
            packet.dts = decoded
            packet.stream = stream
            writer.mux(packet)


def read_times(path: Path) -> dict[int, float]:
    """Returns the time that the service gives to each frame, by its number."""
    times = {}
    sampling = Sampling(fps=EVERY_FRAME, max_frames=2 * FRAMES, height=_HEIGHT, width=_WIDTH)
    with VideoReader(path, sampling, DecodeLimits()) as reader:
        for chunk in reader:
            for time, pixels in zip(chunk.timestamps.tolist(), chunk.frames, strict=True):
                columns = pixels.mean(axis=(0, 2)).reshape(_BITS, -1).mean(axis=1)
                times[sum(int(grey > 120) << bit for bit, grey in enumerate(columns))] = time
    return times


@dataclass(frozen=True)
class Outcome:
    """What the service makes of one damage.

    damage, container: what was damaged, and in what.
    whole: number of frames that were not damaged.
    kept: how many of them keep their true time to half a frame.
    harm: seconds, the worst damage to a frame.
    worst: seconds by which the worst frame is off, damaged or not.
    """

    damage: str
    container: str
    whole: int
    kept: int
    harm: float
    worst: float

    @property
    def is_off(self) -> bool:
        """Whether a frame is off by more than the damage. Half a frame is no difference."""
        return self.worst > self.harm + _ROUNDING


def run(folder: Path, damages: int, seed: int) -> list[Outcome]:
    """Damages videos, each kind of video and of damage as often as any other, and reads them."""
    random = np.random.default_rng(seed)
    videos = []
    for number, kind in enumerate(KINDS):
        path = folder / f"{number}.{kind.suffix}"
        true = kind.times(random)
        write_video(kind, true, path)
        videos.append((kind, true, path))
    outcomes = []
    for number in range(damages):
        kind, true, path = videos[number % len(videos)]
        kinds = Damages(random, kind).kinds
        damage = kinds[number // len(videos) % len(kinds)]
        stated = damage(true)
        copy = folder / f"damaged.{kind.suffix}"
        write_damaged(path, copy, true, stated)
        outcomes.append(_compare(damage.__name__, kind, true, stated, read_times(copy)))
    return outcomes


def _compare(name: str, kind: Kind, true: Times, stated: Times, found: dict[int, float]) -> Outcome:
    usual = float(np.median(np.diff(true)))
    harm = np.abs(stated - true)
    if name == "clock_begins_again":
        # It harms no frame. How long the last one before it was shown nobody knows: as long as is usual.
        begins = int(np.flatnonzero(np.diff(stated) <= 0)[0]) + 1
        true = np.concatenate([true[:begins], true[begins - 1] + usual + stated[begins:]])
        harm = np.zeros(FRAMES)
    off = np.array([abs(found.get(number, math.nan) - true[number]) for number in range(FRAMES)])
    whole = harm < 1e-9
    return Outcome(
        damage=name,
        container=kind.suffix,
        whole=int(whole.sum()),
        kept=int((off[whole] <= usual / 2 + _ROUNDING).sum()),
        harm=max(usual / 2, float(harm.max())),
        worst=float(np.nanmax(off)),
    )


def figures_of(outcomes: list[Outcome]) -> dict[str, Any]:
    """Returns what the program prints, by name."""
    shares = {
        name: _share([outcome for outcome in outcomes if outcome.damage == name])
        for name in dict.fromkeys(outcome.damage for outcome in outcomes)
    }
    return {
        "damages": len(outcomes),
        "frames that were not damaged": sum(outcome.whole for outcome in outcomes),
        "of them with their true time": _share(outcomes),
        "by damage": shares,
        "videos with all of them": sum(outcome.kept == outcome.whole for outcome in outcomes),
        "videos with a frame off by more than the damage": sum(outcome.is_off for outcome in outcomes),
    }


def _share(outcomes: list[Outcome]) -> float:
    return round(sum(outcome.kept for outcome in outcomes) / sum(outcome.whole for outcome in outcomes), 5)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="damage the times of videos and count what comes back true")
    parser.add_argument("--damages", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vsg-times-") as folder:
        outcomes = run(Path(folder), arguments.damages, arguments.seed)
    figures = figures_of(outcomes)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:50} {value}")
    if _share(outcomes) < LEAST_SHARE or any(outcome.is_off for outcome in outcomes):
        sys.exit(1)


if __name__ == "__main__":
    main()
