"""The two-stage family: networks that read the pairs of a detector and score their predicates."""
