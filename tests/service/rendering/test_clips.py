from __future__ import annotations

import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from service.rendering.clips import write_clip
from service.video.errors import RangeOutsideVideo
from tests.support.paths import ROOT

PUPPETS = ROOT / "docs" / "puppets.mp4"  # 10 s, 24 frames a second


def frames_of(path: Path) -> tuple[list[float], list[np.ndarray]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [float(frame.time) for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames]


def nearest(picture: np.ndarray, others: list[np.ndarray]) -> int:
    """The index of the picture that differs least."""
    return int(np.argmin([np.abs(picture.astype(int) - other).mean() for other in others]))


def test_a_clip_has_the_frames_of_its_time_and_no_other(tmp_path: Path) -> None:
    write_clip(PUPPETS, tmp_path / "clip.mp4", 2.5, 4.0)
    times, pictures = frames_of(tmp_path / "clip.mp4")
    _, all_pictures = frames_of(PUPPETS)
    assert times == pytest.approx([index / 24 for index in range(36)], abs=1e-3)
    assert [nearest(pictures[index], all_pictures) for index in (0, 20, 35)] == [60, 80, 95]


def test_an_empty_moment_gives_the_frame_on_display(tmp_path: Path) -> None:
    write_clip(PUPPETS, tmp_path / "clip.mp4", 3.01, 3.01)
    times, pictures = frames_of(tmp_path / "clip.mp4")
    _, all_pictures = frames_of(PUPPETS)
    assert times[0] == 0
    assert len(times) <= 2
    assert nearest(pictures[0], all_pictures) == 72


def test_a_clip_has_the_sound_of_its_time(tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    # A second of silence, then a second of sound, then silence again.
    sound = "aevalsrc='if(between(t,1,2),sin(2*PI*440*t),0)':d=3"
    picture = "testsrc=size=64x48:rate=10:d=3"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound]
    subprocess.run([*command, "-c:v", "libx264", "-c:a", "aac", str(source)], check=True)
    write_clip(source, tmp_path / "loud.mp4", 1.1, 1.9)
    write_clip(source, tmp_path / "quiet.mp4", 2.2, 2.9)
    assert loudness(tmp_path / "loud.mp4") > 0.5
    assert loudness(tmp_path / "quiet.mp4") < 0.05
    with av.open(str(tmp_path / "loud.mp4")) as container:
        assert float(container.duration) / av.time_base == pytest.approx(0.8, abs=0.1)


def loudness(path: Path) -> float:
    with av.open(str(path)) as container:
        samples = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    return float(np.abs(samples).max())


def test_a_time_after_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RangeOutsideVideo):
        write_clip(PUPPETS, tmp_path / "clip.mp4", 20.0, 21.0)
