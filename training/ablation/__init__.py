"""Ablation studies: a plan of variants is trained over several seeds, scored, and reported as tables."""
