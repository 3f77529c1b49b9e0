"""What a video may cost: all that comes from outside is held to these."""

MAX_PIXELS = 36_864 * 256
"""Of one frame: what H.264 allows up to level 5.2 (ITU-T H.264, table A-1, MaxFS), as 4096 x 2304."""

AHEAD_FRAMES = 32
AHEAD_BYTES = 64 << 20
"""Of frames that are decoded and not yet delivered: decoding waits then."""

THREADS = 2
"""Of one decoder, for codecs that can use them."""

OPEN_SECONDS = 10.0
READ_SECONDS = 10.0
"""Without a byte from the source: then it has failed, and is opened again when frames are asked for again."""

PROBE_BYTES = 4 << 20
PROBE_SECONDS = 5.0
"""How far into a medium is looked for what it is."""

MAX_DAMAGED = 100
"""Packets in a row that cannot be decoded: then the medium is given up."""

MAX_AGAIN = 200_000
"""Frames that are decoded once more to find the place again."""

MAX_FRAMES = 256
"""Of one answer."""

ANSWER_BYTES = 12 << 20
"""Of pixels in one answer; frames that do not fit come with the next."""

MAX_WAITING = 16
"""Requests without an answer; one more is refused with a time to come again."""

MAX_STAYS = 1_000
"""Hosts of which it is told how long the user is expected to stay."""

MAX_PACKET_BYTES = 4 << 20
MAX_KEPT_PACKETS = 2_000
MAX_KEPT_BYTES = 32 << 20
"""Of a pushed stream: what is kept to go on elsewhere, and what waits to be decoded."""
