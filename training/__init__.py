"""Data, losses, the loop and evaluation: makes checkpoints."""
