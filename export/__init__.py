"""Checkpoint to bundle (ONNX), and the proof that the two agree."""
