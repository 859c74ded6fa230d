"""Engines run the stages of a bundle; `run_stages` runs them in order.

Each runtime, torch too, is imported only when an engine that needs it is opened.
"""

import os

from models.engines.engine import ENGINES, EngineName, EngineOptions, StageEngine, Tensors
from models.engines.opening import open_stages
from models.engines.running import FunctionStage, RunnableStage, bundle_inputs, run_stages

__all__ = [
    "ENGINES",
    "EngineName",
    "EngineOptions",
    "FunctionStage",
    "RunnableStage",
    "StageEngine",
    "Tensors",
    "bundle_inputs",
    "open_stages",
    "run_stages",
]

# From 1.29 on, the official Linux wheels of ONNX Runtime report sessions to their maker and write a file to the
# temporary folder. The library decides this while it loads, so the variable must be set before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
