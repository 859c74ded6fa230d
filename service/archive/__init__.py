"""An archive: the scene graphs of many videos in Parquet, one row a video, an object, a relation.

`tables` declares the columns and turns a graph into rows. `folder` holds the files, of a disk or of any fsspec URL.
`writing` appends graphs, `reading` tells which files count, `compaction` makes few files of many and deletes rows.
`exports` and `corrections` pass the graphs on to other programs, and take them back.

All modules but `folder` and `errors` need the extra `archive`.
"""
