"""What a video scene graph is, and the networks that make one.

`vocabulary`, `scene_graph`, `predictions` and `bundle` need NumPy and pydantic only; everything else here needs torch.
"""
