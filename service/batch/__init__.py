"""Many videos to an archive: `vsg batch`.

`listing` finds the videos of a source, `planning` leaves out those that the archive has, `making` makes the graph of
one, and `local` or `cluster` lets many processes do so. `running` puts these together.
"""
