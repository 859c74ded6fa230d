"""Measures how many questions about unseen videos a search answers: `python -m benchmarks.questions`.

`asking` makes the questions of a video from its annotation, each with its answer and its moments, without any search.
`answers` says how right an answer is. `graphs` makes the graphs that are asked, and `__main__` asks them and counts.
"""
