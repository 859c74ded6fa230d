"""Faster R-CNN on dense tensors: frames in, candidate pairs out."""

from models.detector.config import DetectorConfig
from models.detector.network import Detector

__all__ = ["Detector", "DetectorConfig"]
