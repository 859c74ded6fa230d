"""What a data folder says about itself."""

from __future__ import annotations

import json
from pathlib import Path

from training.action_genome import SmallObjects

PUPPETS_FILE = Path("annotations") / "puppets.json"
"""Puppet Genome writes its world, knobs and seed here; Action Genome has no such file."""


def small_objects_of(data: Path) -> SmallObjects:
    """What SGDet does with objects under 16 px: Puppet Genome's small frames keep them, Action Genome drops them."""
    return "keep" if (data / PUPPETS_FILE).is_file() else "drop"


def describe_data(data: Path) -> str:
    """One line for checkpoints and manifests."""
    if not (data / PUPPETS_FILE).is_file():
        return "Action Genome"
    facts = json.loads((data / PUPPETS_FILE).read_text())
    size = f"{facts['train_videos']} training videos of {facts['frames_per_video']} frames"
    return f"Puppet Genome, {facts['world']} world, seed {facts['seed']}, {size}"
