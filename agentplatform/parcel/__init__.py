"""What travels: manifest, code, state."""
