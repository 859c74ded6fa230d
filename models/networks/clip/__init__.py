"""CLIP: its sentences, its image tower, and crops of persons and things."""
