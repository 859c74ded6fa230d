"""Facts about a data folder: its small objects, its frame rate, and one line that describes it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from training.data.action_genome import SmallObjects

PUPPETS_FILE = Path("annotations") / "puppets.json"
"""Puppet Genome writes its world, knobs and seed here; Action Genome has no such file."""

FRAME_RATE = 24.0
"""Frames a second that frame numbers are counted in: Puppet Genome's.

Action Genome does not tell its own. The same is assumed there, so that seconds, and speeds made of them, are a little
off.
"""


def small_objects_of(data: Path, task: str = "sgdet") -> SmallObjects:
    """Returns whether a task keeps objects under 16 px: PredCls keeps them, SGCls and SGDet drop them.

    On Puppet Genome, whose frames are small, every task keeps them.
    """
    return "keep" if task == "predcls" or (data / PUPPETS_FILE).is_file() else "drop"


def describe_data(data: Path) -> str:
    """Describes a data folder in one line, for checkpoints and manifests."""
    if files := sorted(data.glob("*.jsonl")):
        lines = (line for file in files for line in file.read_text(encoding="utf-8").splitlines())
        sources = Counter(json.loads(line)["source"] for line in lines)
        sets = ", ".join(f"{name} ({count})" for name, count in sorted(sources.items()))
        return f"relations without pixels, photographs and moments of videos: {sets}"
    if not (data / PUPPETS_FILE).is_file():
        return "Action Genome"
    facts = json.loads((data / PUPPETS_FILE).read_text())
    size = f"{facts['train_videos']} training videos of {facts['frames_per_video']} frames"
    return f"Puppet Genome, {facts['world']} world, seed {facts['seed']}, {size}"
