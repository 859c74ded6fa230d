"""Engines: what runs the stages of a bundle.

Each runtime, torch too, is imported where an engine that needs it is opened.
"""

import os

from models.engines.engine import ENGINES, EngineName, EngineOptions, StageEngine, Tensors
from models.engines.opening import open_stages
from models.engines.running import FunctionStage, RunnableStage, run_stages

__all__ = [
    "ENGINES",
    "EngineName",
    "EngineOptions",
    "FunctionStage",
    "RunnableStage",
    "StageEngine",
    "Tensors",
    "open_stages",
    "run_stages",
]

# From 1.29 on, the official Linux wheels of ONNX Runtime report sessions to their maker and leave a file in the
# temporary folder. That is decided while the library loads, so this must come before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
