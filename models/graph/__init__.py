"""What a video scene graph is, and what a bundle is that makes one; needs NumPy and pydantic, no torch."""
