"""From a model's dense predictions to the scene graph of a video.

`detections` finds the people and things of every frame, `tracking` gives them ids that are stable over the video,
`triplets` picks what holds between them, `relations` merges it over time, and `build` puts the four together.
"""

from service.graph.build import build_frames

__all__ = ["build_frames"]
