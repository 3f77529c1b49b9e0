"""Pushes a video to a video-decoding agent, from the side of the client: a file, a camera, or what flows in a pipe.

    ffmpeg -i CAMERA -c copy -f matroska - | python -m agents.video_decoding.feeder AGENT -

The agent keeps what it needs to go on elsewhere, so nothing is lost by its moves. It takes as much as it has room for:
somebody takes frames from it meanwhile ("next"), or it sends them to a listener ("play").
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import av

from agentplatform import connect
from agents.video_decoding.limits import MAX_PACKET_BYTES
from ledger.errors import Misuse, PlatformError, Unavailable

BATCH = 16  # packets of one message
BATCH_BYTES = MAX_PACKET_BYTES
PAUSE = 0.05  # seconds, when the agent has no room and does not say for how long


def feed(call: Callable[[str, Any], Any], source: Any) -> int:
    """Pushes all of `source`, a name or an open file, with `call`, as AgentProxy.call. Returns the number of packets.

    Waits while the agent has no room, or is on its way. Who feeds the same source once more goes on where a feeder
    before it ended: the agent passes over what it has. Raises Misuse for what is no video, and what the agent says."""
    begun: dict[str, Any] | None
    number = 0
    with av.open(source) as container:
        if not container.streams.video:
            raise Misuse(f"{source} holds no video: name another")
        stream = container.streams.video[0]
        codec = stream.codec_context
        begun = {
            "codec": codec.codec.canonical_name,
            "time_base": [stream.time_base.numerator, stream.time_base.denominator],
            "extradata": bytes(codec.extradata or b""),
        }
        for packets in _batches(container.demux(stream)):
            _push(call, {"number": number, "packets": packets, "stream": begun})
            number, begun = number + len(packets), None
    _push(call, {"number": number, "packets": [], "stream": begun, "end": True})
    return number


def _batches(packets: Iterator[Any]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for packet in packets:
        if not packet.size:
            continue  # the end
        if packet.pts is None:
            raise Misuse("this stream has no timestamps: put it into a container first (ffmpeg -i .. -c copy out.mkv)")
        if batch and (len(batch) >= BATCH or size + packet.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append({"data": bytes(packet), "pts": packet.pts, "dts": packet.dts, "key": bool(packet.is_keyframe)})
        size += packet.size
    if batch:
        yield batch


def _push(call: Callable[[str, Any], Any], body: dict[str, Any]) -> None:
    while True:
        try:
            call("push", body)  # a repeat, if the answer was lost: what came before is passed over
            return
        except Unavailable as error:
            time.sleep(error.retry_after or PAUSE)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m agents.video_decoding.feeder", description=__doc__)
    parser.add_argument("agent", help="the agent's name or id; its source is 'pipe:'")
    parser.add_argument("source", help="a file, an address, or - for what comes on standard input")
    parser.add_argument("--host", help="the host whose operator you are (the first one that is found)")
    options = parser.parse_args(arguments)
    try:
        agent = (connect(options.host) if options.host else connect()).agent(options.agent)
        pushed = feed(agent.call, sys.stdin.buffer if options.source == "-" else options.source)
    except PlatformError as error:
        print(error, file=sys.stderr)
        return 1
    except av.FFmpegError as error:
        print(f"{options.source} cannot be read ({error.strerror}): is it a video?", file=sys.stderr)
        return 1
    print(f"{pushed} packets")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
