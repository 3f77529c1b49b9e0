"""Packets between the daemon and its fork server, on a socket that keeps packets apart (SOCK_SEQPACKET)."""

import struct

PACKET = struct.Struct("=cii")  # what, process id, wait status

FORK = b"F"  # to the fork server, with the ends of two socketpairs attached
KILL = b"K"  # to the fork server: this worker and its process group
CONTINUE = b"C"  # to the fork server: this worker, which stopped itself, goes on
FORKED = b"f"  # to the daemon, in the order of the requests
ENDED = b"e"  # to the daemon: a worker was reaped
