"""Numbered stories to run, and papers/: the published experiments, made again."""
