"""Paths of the checkout and of the data beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
"""Videos, annotations and reference figures. Tests that need the folder skip where it is missing."""
