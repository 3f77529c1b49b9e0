"""What runs agents, behind one contract (base.py)."""
