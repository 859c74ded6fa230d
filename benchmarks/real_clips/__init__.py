"""What is true in real clips of public repositories, and how much of it a model's graphs say.

`kept.json`, `tuned.json` and `generated.json` hold the truths. They were written by eye, before any prediction was
looked at. The clips' licences are unclear, so the clips are not here: `source` names the repository and the path of
each.
"""
