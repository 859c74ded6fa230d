"""Dumps the frames of Charades' videos into the files that Action Genome's annotations name.

A key `001YG.mp4/000089.png` means picture 89, counted from 1, of those that `ffmpeg -i 001YG.mp4 %06d.png` writes,
because Action Genome's own tool dumps frames in this way, at each video's own rate. ffmpeg makes that rate constant. In
a video whose frames come in time, picture n is the n-th frame on display. Where frames come late (a variable rate,
sound that begins before the picture), ffmpeg writes the frame on display again; where they come too soon, it leaves
some out. This module does the same, so that every box meets the picture that it was drawn on.
"""

import math
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
import numpy.typing as npt

from training.data.action_genome import PERSON_FILE, load_records, parse_key
from training.errors import DataError

_TOLERANCE: Final = 1.1
"""Slots of the constant rate that a frame may be off before one is repeated or left out (ffmpeg's)."""
_USUAL_RATE: Final = 25
"""Frames per second of a file that says nothing of its rate."""


@dataclass(frozen=True)
class _Order:
    """A worker's order to dump one video.

    annotated: names of files, such as 000089.png.
    stride: dumps the frames 1, 1 + stride, … as well; None dumps the annotated ones only.
    """

    video: Path
    folder: Path
    annotated: frozenset[str]
    stride: int | None


def dump_frames(
    root: Path,
    *,
    stride: int | None = None,
    processes: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Writes `root/frames/<VIDEO>.mp4/<6 digits>.png` from `root/videos/<VIDEO>.mp4`; returns what failed, by video.

    stride: dumps the frames 1, 1 + stride, … as well as those that the annotations name.
    progress: called with the number of videos that are done or failed, and of all.

    A video's frames appear together once all are written. Existing frames are kept, and a finished video is not opened.

    Raises DataError where the annotations or the folder of videos are missing, or frames cannot be written.
    """
    person_path = root / "annotations" / PERSON_FILE
    annotated: dict[str, set[str]] = {}
    for key in load_records(person_path):
        video, _ = parse_key(key, person_path)
        annotated.setdefault(video, set()).add(key.rpartition("/")[2])
    videos, frames = root / "videos", root / "frames"
    if not videos.is_dir():
        raise DataError(f"{videos} is not a folder: put the videos of Charades (480p) there, as <VIDEO>.mp4")
    orders = [_Order(videos / video, frames / video, frozenset(names), stride) for video, names in annotated.items()]
    problems = []
    try:
        for done, problem in enumerate(_mapped(orders, processes), start=1):
            if problem is not None:
                problems.append(problem)
            if progress is not None:
                progress(done, len(orders))
    except OSError as error:
        raise DataError(
            f"frames cannot be written into {frames}: {error.strerror}; mend it and run the command again, "
            "which keeps what is written"
        ) from error
    return problems


def numbered_frames(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields the `av.VideoFrame`s of a video, each with the number that ffmpeg's command line gives its picture.

    A frame that stays on display comes again under the next number. Raises DataError where the video cannot be decoded.
    """
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream: Any = container.streams.best("video")
            if stream is None:
                raise DataError(f"{path} has no video stream: copy this video here again")
            stream.thread_count = 1  # the processes already fill the cores
            yield from _at_constant_rate(container, stream)
    except av.FFmpegError as error:
        raise DataError(f"{path} cannot be decoded ({error.strerror}): copy this video here again") from error


def _at_constant_rate(container: Any, stream: Any) -> Iterator[tuple[int, Any]]:
    rate = stream.guessed_rate or _USUAL_RATE
    origin = (container.start_time or 0) / av.time_base
    # As ffmpeg 5 does (Action Genome used 2.8): frames that are not stored in the order in which they are shown last
    # one slot each, others as long as the file says.
    reordered = stream.codec_context.has_b_frames
    written, previous, repeats = 0, None, [0, 0, 0]
    for frame in container.decode(stream):
        late = 0.0 if frame.time is None else (frame.time - origin) * float(rate) - written
        length = 1 if reordered else _nearest(float((frame.duration or 0) * frame.time_base * rate)) or 1
        slots, of_previous = _slots(late, length)
        for slot in range(slots):
            written += 1
            yield written, frame if previous is None or slot >= of_previous else previous
        previous, repeats = frame, [*repeats[1:], of_previous]
    for _ in range(sorted(repeats)[1]):  # the last frame is repeated as the ones before it were of late
        written += 1
        yield written, previous


def _slots(late: float, length: int) -> tuple[int, int]:
    """Returns how many slots a frame fills, and how many of them, from the first, still show the frame before.

    late: slots from the next free one to the frame's.
    length: slots that the frame lasts.
    """
    end = late + length
    if end < -_TOLERANCE:
        return 0, 0
    if end <= _TOLERANCE:
        return 1, 0
    filled = _nearest(end)
    return filled, min(filled, _nearest(late - 0.6)) if late > _TOLERANCE else 0


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)


def _mapped(orders: list[_Order], processes: int) -> Iterator[str | None]:
    """Dumps videos, in several processes if asked for; yields in order what is wrong with each, or None."""
    if processes <= 1:
        yield from map(_problem_of, orders)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_problem_of, orders)


def _problem_of(order: _Order) -> str | None:
    try:
        _dump(order)
    except DataError as error:
        return str(error)
    return None


def _dump(order: _Order) -> None:
    """Writes the frames of one video that are missing.

    Raises DataError where the video is missing, broken or too short.
    """
    folder, stride = order.folder, order.stride
    # Only decoding tells how many frames a video has, so an empty file marks that all of a stride are there.
    stride_done = None if stride is None else folder / f".stride-{stride}"
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    missing = order.annotated - present
    if not missing and (stride_done is None or stride_done.exists()):
        return
    if not order.video.is_file():
        raise DataError(f"{order.video} is missing: copy this video of Charades (480p) here")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        number = 0
        for number, frame in numbered_frames(order.video):
            name = f"{number:06d}.png"
            on_stride = stride is not None and (number - 1) % stride == 0
            if name in missing or (on_stride and name not in present):
                _write(partial / name, frame)
                missing = missing - {name}
            if stride is None and not missing:
                break
        if missing:
            raise DataError(
                f"{order.video} has frames 1 to {number}, but the annotations name {min(missing)}: "
                "copy the video that was annotated here"
            )
        if folder.exists():
            for path in partial.iterdir():
                path.replace(folder / path.name)
        else:
            partial.rename(folder)
        if stride_done is not None:
            stride_done.touch()
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(path: Path, frame: Any) -> None:
    pixels: npt.NDArray[np.uint8] = frame.to_ndarray(format="bgr24")
    # Phones store what they film turned and note by how much; ffmpeg turns it upright when it dumps.
    _, encoded = cv2.imencode(".png", np.rot90(pixels, round(frame.rotation / 90)))
    path.write_bytes(encoded.tobytes())
