"""Renders scenes as pictures."""

import cv2
import numpy as np

from training.data.puppets.room import GRAIN_MARGIN, Image, paint
from training.data.puppets.story import Scene


def render(scene: Scene) -> Image:
    """Renders a scene, uint8 (H, W, 3) RGB: it is painted back to front, then lit, blurred and made noisy."""
    image = scene.room.backdrop.copy()
    for layer in scene.layers:
        paint(image, layer.shapes, scene.world.scale)
    if scene.room.blur > 0.2:  # anything less changes no pixel
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), scene.room.blur), dtype=np.uint8)
    height, width = image.shape[:2]
    down, across = np.random.default_rng(scene.noise_seed).integers(GRAIN_MARGIN, size=2).tolist()
    lit = image * scene.room.light
    lit += scene.room.grain[down : down + height, across : across + width]
    return np.clip(lit, 0.0, 255.0, out=lit).astype(np.uint8)
