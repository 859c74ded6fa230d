"""Turns checkpoints into bundles (ONNX) and proves that the two agree."""
