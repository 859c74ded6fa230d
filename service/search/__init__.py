"""Search in scene graphs, in a language that can be read aloud; docs/search.md defines it.

`queries.parse` reads a text with the words of a vocabulary (`words`) into a tree (`tree`), by the grammar in
`grammar.lark`. `sql` compiles the tree for DuckDB. `moments` runs it, over an archive or over one graph.

All modules but `errors` need the extra `archive`.
"""
