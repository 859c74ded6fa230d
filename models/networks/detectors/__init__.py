"""Faster R-CNN on dense tensors: frames in, candidate pairs out."""

from models.networks.detectors.config import DetectorConfig
from models.networks.detectors.network import Detector

__all__ = ["Detector", "DetectorConfig"]
