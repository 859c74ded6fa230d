"""Faster R-CNN on dense tensors, which turns frames into candidate pairs."""

from models.networks.detectors.config import DetectorConfig
from models.networks.detectors.network import Detector

__all__ = ["Detector", "DetectorConfig"]
