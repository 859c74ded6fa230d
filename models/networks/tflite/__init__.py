"""TensorFlow Lite files, read without TensorFlow: their weights as float arrays and their graph as a torch module."""

from models.networks.tflite.graph import TfliteGraph
from models.networks.tflite.reader import TfliteModel, TfliteOperation, TfliteTensor, parse_tflite, read_tflite

__all__ = ["TfliteGraph", "TfliteModel", "TfliteOperation", "TfliteTensor", "parse_tflite", "read_tflite"]
