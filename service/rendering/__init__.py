"""The scene graph drawn on its video: the whole video again, or one frame beside its graph.

`timeline` says what there is to see at a time, `drawing` draws that on a picture, `diagram` draws the graph of one
moment. `video` and `picture` put them together; `writer` encodes, `sound` is copied.

Frames come from the decoder process, so an untrusted video is as safe to draw as to analyse. Only the sound is read in
this process, where it is asked for: it is repacked, not decoded.
"""

from service.rendering.picture import render_frame
from service.rendering.video import render_video

__all__ = ["render_frame", "render_video"]
