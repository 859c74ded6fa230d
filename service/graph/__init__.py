"""From a model's dense predictions to the scene graph of a video.

`detections` finds the people and things of every clip and `triplets` what may hold between them; once the video is
over, `tracking` gives them ids that are stable over it and `relations` merges what holds over time. `builder` puts them
together, `frames` is what comes out, and `document` writes it.
"""

from service.graph.builder import GraphBuilder
from service.graph.document import GraphReader, write_graph
from service.graph.frames import VideoGraph

__all__ = ["GraphBuilder", "GraphReader", "VideoGraph", "write_graph"]
