"""Links between hosts (base.py is the contract)."""
