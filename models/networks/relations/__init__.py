"""The two-stage family: networks that read the pairs a detector found and say which predicates hold."""
