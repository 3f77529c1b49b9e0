"""The trust management server: which hosts the ledger trusts, and why not."""
