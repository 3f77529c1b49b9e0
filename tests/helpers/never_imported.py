"""A module whose import does not end, for tests of who waits for it."""

import signal

signal.pause()
