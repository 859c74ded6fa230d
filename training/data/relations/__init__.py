"""Annotated relations without pixels: one format for photographs and videos of many data sets.

`record` is the format, `words` says other sets' words in Action Genome's, and each other module reads one set.
"""

from training.data.relations.record import Pair, Record, read_records, write_records

__all__ = ["Pair", "Record", "read_records", "write_records"]
