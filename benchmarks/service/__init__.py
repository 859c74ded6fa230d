"""Measures where the time goes, in one run on one machine."""
