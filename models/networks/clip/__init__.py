"""CLIP: embeddings of sentences, of whole frames, and of the regions around pairs."""
