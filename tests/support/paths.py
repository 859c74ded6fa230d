"""Where the checkout is, and the data that lies beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
"""Videos, annotations and reference figures; tests that need them skip where it is missing."""
