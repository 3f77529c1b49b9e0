"""Two network namespaces with a cable between them: tbf (token bucket filter) at both ends holds the rate, and where a
delay is asked, the cable is a pair of TUN devices and a process that passes packets on later. Needs root.

The namespaces have no names: they are those of two processes that end with this one, however it ends, and with the
last process within a namespace it goes, its devices with it. Nothing outside them is touched.
"""

import ctypes
import fcntl
import itertools
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import Self, TypeVar

T = TypeVar("T")

CABLE = "cable0"
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# A packet of 1,500 bytes on its cable has 1,514. Bytes that pass at once: two of them, or what passes in a millisecond.
LEAST_BURST, BURST_SECONDS = 3200, 0.001
QUEUE_BYTES, QUEUE_SECONDS = 128 * 1024, 0.05  # that wait in front of the cable, whichever is more


@cache
def why_not() -> str | None:
    """Why there can be no such link here; None if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program, package in (("ip", "iproute2"), ("tc", "iproute2"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            return f"there is no `{program}`; install {package}"
    try:
        with Namespaces(10.0, 0.0):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        told = (error.stderr or b"").decode().strip() if isinstance(error, subprocess.CalledProcessError) else ""
        return f"network namespaces are not allowed here: {told or error}"


class Namespaces:
    """The link, within a `with`. Its ends are 0 and 1."""

    name = "tbf in network namespaces"

    def __init__(self, mbit: float | None, delay: float) -> None:
        """`mbit`: Mbit/s each way, of whole packets (None: as fast as it goes). `delay`: seconds each way."""
        self._mbit, self._delay = mbit, delay
        self._ports = itertools.count(7000)
        self._ends = ExitStack()
        self._holders: list[int] = []  # processes
        if delay:
            self.name += ", delay by a TUN relay"

    def __enter__(self) -> Self:
        try:
            for _ in range(2):
                self._holders.append(self._hold())
            self._lay_tun() if self._delay else self._lay_veth()
            for end in (0, 1):
                self._run(end, "ip", "link", "set", "lo", "up")
                self._run(end, "ip", "address", "add", f"{self._address(end)}/24", "dev", CABLE)
                self._run(end, "ip", "link", "set", CABLE, "up")
            if self._mbit is not None:
                self.shape(self._mbit)
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def shape(self, mbit: float | None) -> None:
        for end in (0, 1):
            if mbit is not None:
                self._run(end, "tc", "qdisc", "replace", "dev", CABLE, "root", "tbf", *_tbf(mbit))
            elif self._mbit is not None:
                self._run(end, "tc", "qdisc", "delete", "dev", CABLE, "root")
        self._mbit = mbit

    def place(self, end: int) -> tuple[str, str]:
        address = f"{self._address(end)}:{next(self._ports)}"
        return address, address

    def namespace(self, end: int) -> str:
        return f"/proc/{self._holders[end]}/ns/net"

    def command(self, end: int) -> tuple[str, ...]:
        return ("nsenter", f"--net={self.namespace(end)}")

    def at(self, end: int, call: Callable[[], T]) -> T:
        """In a thread of its own: what a thread enters is its own too, and sockets stay where they were made."""
        results: list[T | BaseException] = []

        def work() -> None:
            try:
                enter(self.namespace(end))
                results.append(call())
            except BaseException as error:
                results.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    def _address(self, end: int) -> str:
        return f"10.78.0.{end + 1}"

    def _run(self, end: int, *words: str) -> None:
        subprocess.run((*self.command(end), *words), check=True, capture_output=True)

    def _hold(self) -> int:
        """A process in a namespace of its own, that ends when nobody can write to it any more."""
        words = ("unshare", "--net", "sh", "-c", "echo && exec cat")
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._ends.enter_context(process)  # waits for its end
        self._ends.callback(process.kill)
        assert process.stdout is not None and process.stderr is not None
        if not process.stdout.readline():
            raise OSError(process.stderr.read().decode().strip())
        return process.pid

    def _lay_veth(self) -> None:
        other = ("type", "veth", "peer", "name", CABLE, "netns", str(self._holders[1]))
        self._run(0, "ip", "link", "add", CABLE, *other)

    def _lay_tun(self) -> None:
        devices = [self.at(end, _open_tun) for end in (0, 1)]
        words = (sys.executable, "-m", "benchmarks.tun_relay", *map(str, devices), str(self._delay))
        process = subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=devices)
        self._ends.enter_context(process)  # waits for its end
        self._ends.callback(process.kill)
        for device in devices:
            os.close(device)


def enter(path: str) -> None:
    """Moves this thread into a network namespace, /proc/PID/ns/net. (os.setns is in Python 3.12 and later.)"""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path) as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {path}")


def _tbf(mbit: float) -> tuple[str, ...]:
    burst = max(LEAST_BURST, int(mbit * 1e6 / 8 * BURST_SECONDS))
    limit = max(QUEUE_BYTES, int(mbit * 1e6 / 8 * QUEUE_SECONDS))
    return ("rate", f"{mbit}mbit", "burst", str(burst), "limit", str(limit))


def _open_tun() -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", CABLE.encode(), IFF_TUN | IFF_NO_PI))
    return device
