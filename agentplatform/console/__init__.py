"""For people: the command line, the shell, and the demo."""
