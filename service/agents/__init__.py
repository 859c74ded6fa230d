"""Tools for agents: what a language model may ask an archive, over the Model Context Protocol.

`views` reads an archive for them, `tools` declares them and teaches the language of queries, `server` offers them over
HTTP behind keys. docs/agents.md is the guide. Needs the extra `agents`.
"""
