"""Other systems that move objects, each measured by a script of its own with that system's Python."""
