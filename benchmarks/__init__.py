"""Figures: each is measured here and nowhere else, beside a floor or a peer in the same run."""
