"""Measures how fast every engine and precision runs one network, all in one run."""
