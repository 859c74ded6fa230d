"""Opens ONNX graphs with ONNX Runtime; needs onnxruntime when called, not when imported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def open_session(path: Path, threads: int = 0) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU; `threads` is the number inside one operator, 0 for one per core.

    Raises ModuleNotFoundError where onnxruntime is not installed, and ONNX Runtime's own errors for a bad graph.
    """
    # From 1.29 on, the official Linux wheels report sessions to their maker and leave a file in the temporary folder.
    # That is decided while the library loads, so this must come before its import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Warnings about constant folding and the like go to stderr from native code; errors are raised anyway.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
