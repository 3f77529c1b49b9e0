"""The resource management server: what this host has free, what the others say, and the links between them."""
