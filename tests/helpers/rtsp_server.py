"""A camera for tests: an RTSP server (RFC 2326) that sends one H.264 stream inside the TCP connection (RFC 6184)."""

import base64
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import av

MTU = 1200
CLOCK = 90_000


def _units(data: bytes) -> list[bytes]:
    return [unit for unit in re.split(b"\0\0\0?\x01", data) if unit]


class Camera:
    """Films `path`, a raw H.264 file, again and again from frame `begins` on for each who connects; frame n has the
    timestamp n / 25 s. `pace`: seconds between frames."""

    def __init__(self, path: Path, pace: float = 0.0) -> None:
        with av.open(str(path)) as container:
            self._frames = [_units(bytes(packet)) for packet in container.demux(video=0) if packet.size]
        self._pace = pace
        self.silent = threading.Event()  # then nothing more is sent
        self.begins = 0
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/camera"

    def close(self) -> None:
        self.silent.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            each.close()
        self._thread.join(5)

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            try:
                there, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(there)
            threading.Thread(target=self._speak, args=(there,), daemon=True).start()

    def _speak(self, there: socket.socket) -> None:
        try:
            file = there.makefile("rb")
            while line := file.readline():
                method = line.split(b" ")[0].decode()
                headers = {}
                while (line := file.readline().strip()) != b"":
                    name, _, value = line.partition(b":")
                    headers[name.lower()] = value.strip().decode()
                there.sendall(self._answer(method, headers[b"cseq"]))
                if method == "PLAY":
                    threading.Thread(target=self._film, args=(there,), daemon=True).start()
        except (OSError, KeyError, ValueError):
            there.close()

    def _answer(self, method: str, cseq: str) -> bytes:
        extra, body = "Session: 1\r\n", ""
        if method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            sets = [unit for unit in self._frames[0] if unit[0] & 31 in (7, 8)]
            told = ",".join(base64.b64encode(unit).decode() for unit in sets)
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                f"a=rtpmap:96 H264/{CLOCK}\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets={told}\r\n"
                "a=control:video\r\n"
            )
            extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            extra += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        return f"RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{extra}\r\n{body}".encode()

    def _film(self, there: socket.socket) -> None:
        number, sequence = self.begins, 0
        try:
            while not self.silent.is_set():
                units = self._frames[number % len(self._frames)]
                for unit in units:
                    for payload in _payloads(unit):
                        last = unit is units[-1] and payload is not None and payload[1]
                        header = bytes([0x80, 96 | (0x80 if last else 0)]) + (sequence & 0xFFFF).to_bytes(2, "big")
                        header += (number * CLOCK // 25 & 0xFFFFFFFF).to_bytes(4, "big") + b"cam1"
                        packet = header + payload[0]
                        there.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
                        sequence += 1
                number += 1
                time.sleep(self._pace)
        except OSError:
            there.close()


def _payloads(unit: bytes) -> list[tuple[bytes, bool]]:
    """A unit as it is, or in fragments (FU-A), and whether each is the unit's last."""
    if len(unit) <= MTU:
        return [(unit, True)]
    pieces = [unit[at : at + MTU] for at in range(1, len(unit), MTU)]
    indicator, kind = unit[0] & 0xE0 | 28, unit[0] & 31
    found = []
    for place, piece in enumerate(pieces):
        first, last = place == 0, place == len(pieces) - 1
        found.append((bytes([indicator, kind | (0x80 if first else 0) | (0x40 if last else 0)]) + piece, last))
    return found
