"""One host of the benchmark: production's daemon, on a disk whose syncs are slow, or one that notes when what happens.

Everything is put in place from outside, here: production code knows none of it. What is noted is in `benchmarks.parts`.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import msgspec

import ledger.disk
from agentplatform import daemon, ground, rooms
from agentplatform.history import HostHistory
from benchmarks.slow_disk import SlowDisk
from ledger.links.base import Channel, Receiver
from ledger.links.tls import TlsLinks

NOTED = ("Offer", "Accept", "Notice")  # what benchmarks.parts looks for


def note(folder: Path) -> None:
    """From now on handoff messages and what is opened are noted, beside the history and in its form."""

    class NotedLinks(TlsLinks):
        def __init__(self, host: str, *links: Any) -> None:
            super().__init__(host, *links)
            notes[:] = [HostHistory(folder, f"{host}-notes")]

        def send(self, host: str, channel: Channel, message: bytes) -> bool:
            if channel is Channel.HANDOFF:
                _note(notes[0], "leaves", message)
            return super().send(host, channel, message)

        def on_message(self, receiver: Receiver) -> None:
            def noted(host: str, channel: Channel, message: bytes) -> None:
                if channel is Channel.HANDOFF:
                    _note(notes[0], "comes", message)
                receiver(host, channel, message)

            super().on_message(noted)

    class NotedRunner(rooms.ProcessRunner):
        async def open(self, *parcel: Any) -> None:
            begin = time.monotonic()
            await super().open(*parcel)
            notes[0].write("opened", begin=begin)

    notes: list[HostHistory] = []
    ground.TlsLinks = NotedLinks  # type: ignore[assignment,misc]
    rooms.ProcessRunner = NotedRunner  # type: ignore[misc]


def _note(notes: HostHistory, event: str, message: bytes) -> None:
    kind, transfer, *_ = msgspec.msgpack.decode(message)
    if kind in NOTED:  # others may be about a host, and have no transfer
        notes.write(event, message=kind, transfer=transfer.hex())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.migration_mae", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--sync-ms", type=float, default=0.0)
    parser.add_argument("--history", type=Path)
    options = parser.parse_args()
    if options.sync_ms:
        ledger.disk.connect = SlowDisk(options.sync_ms / 1000).connect
    if options.history is not None:
        note(options.history)
    return daemon.run(options.home, options.history)


if __name__ == "__main__":
    raise SystemExit(main())
