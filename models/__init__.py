"""What a video scene graph is, and the networks that make one.

`vocabulary`, `scene_graph`, `predictions`, `duplicates`, `bundle` and `engines` do without torch, so that the service
can use them; everything else here needs it.
"""
