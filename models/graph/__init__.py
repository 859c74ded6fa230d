"""Scene graphs of videos, and the bundles that make them; needs NumPy and pydantic, no torch."""
