"""From a model's dense predictions to the scene graph of a video.

`detections` finds the subjects and things of every clip, and `triplets` what may hold between them. Once the video is
over, `tracking` gives them ids that are stable over it. `builder` puts these together, `video_graph` is the result,
with relations merged over time, and `document` writes it.
"""

from service.graph.builder import GraphBuilder
from service.graph.document import GraphReader, write_graph
from service.graph.video_graph import VideoGraph

__all__ = ["GraphBuilder", "GraphReader", "VideoGraph", "write_graph"]
