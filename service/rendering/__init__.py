"""The scene graph drawn on its video: the whole video again, or one frame beside its graph.

`render` reads the frames and puts the parts together. `drawing` finds the boxes and triplets of any time and draws them
on a picture, and `diagram` draws the graph of one moment, both with the names of `tags`. `writer` encodes the pictures
and copies the sound. `clips` cuts a moment out of a video, with nothing drawn on it.

Frames come from the decoder process, so an untrusted video is as safe to draw as to analyse. Only the sound is read in
this process, where it is asked for: it is repacked, not decoded.
"""

from service.rendering.render import render_frame, render_video

__all__ = ["render_frame", "render_video"]
