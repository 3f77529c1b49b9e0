"""The daemon's side: Pyro5 threads that hand a call to the event loop and wait for it, and do nothing else."""

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
import socket
import struct
import threading
from pathlib import Path
from typing import Any, Protocol

import psutil
import Pyro5.api
import Pyro5.core
import Pyro5.serializers

from agentplatform.faults import as_data
from agentplatform.settings import Home, private_folder
from ledger.errors import OutcomeUnknown, PlatformError, Unavailable

log = logging.getLogger(__name__)
OBJECT = "mae"
MAX_PATIENCE = 3600.0
HANDSHAKE_SECONDS = 5.0
MAX_CALL_BYTES = 64 * 1024 * 1024  # of one call, also before the token is known
# What changes something, and so may have been done when nobody can say so: which command then shows it.
SHOWN_BY = {
    "stop": "status",
    "drain": "hosts",
    "open": "hosts",
    "create": "agents",
    "ask": "logs AGENT",
    "tell": "logs AGENT",
    "order": "why AGENT",
    "declare_lost": "agents",
    "group": "decide GROUP",
    "event": "why AGENT",
    "vote_rules": "trust",
    "vote_revoke": "trust",
    "vote_suspend": "trust",
    "vote_reinstate": "trust",
    "vote_join": "trust",
    "leave": "trust",
    "rotate_key": "hosts",
}


class Desk(Protocol):
    async def perform(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Runs one verb on the event loop; plain data in and out."""


class Door:
    """What a client sees: one method. Errors come back as data, so that no exception class crosses the socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, desk: Desk) -> None:
        self._loop, self._desk = loop, desk

    @Pyro5.api.expose
    def call(self, verb: str, arguments: dict[str, Any], patience: float) -> dict[str, Any]:
        """`{"value": ..}` or `{"error": kind, "message": text, "retry_after": seconds | None}`."""
        future = asyncio.run_coroutine_threadsafe(self._desk.perform(verb, arguments), self._loop)
        try:
            return {"value": future.result(min(patience, MAX_PATIENCE))}
        except TimeoutError:
            future.cancel()
            return as_data(undone(verb, f"{verb} was not done within {patience:g} s", patience))
        except PlatformError as error:
            return as_data(error)
        except Exception:
            log.exception("%s failed", verb)
            return as_data(undone(verb, f"{verb} failed inside the daemon; its log has the traceback"))


def undone(verb: str, what: str, retry_after: float | None = None) -> Unavailable:
    """For a verb that was asked and not answered, of which `what` says how it ended."""
    if verb not in SHOWN_BY:
        return Unavailable(f"{what}; look at: agentplatform status", retry_after)
    return OutcomeUnknown(f"{what}; it may have been done all the same: look at: agentplatform {SHOWN_BY[verb]}")


class _Daemon(Pyro5.api.Daemon):
    """Lets in who knows the token, which stands in a file that only the host's owner can read.

    Agents run under the same user as the daemon, and the jail keeps them from files, not from sockets.
    """

    token: str = ""

    def _handshake(self, conn: Any, denied_reason: str | None = None) -> bool:
        """Before a byte is read: what an agent started is turned away, and nobody holds a thread by saying nothing."""
        if _started_by_us(_peer(conn.sock)):
            conn.close()
            return False
        conn.timeout = HANDSHAKE_SECONDS  # of each read alone: who sends a byte now and then has the timer as its limit
        late = threading.Timer(HANDSHAKE_SECONDS, _hang_up, (conn.sock,))
        late.start()
        try:
            welcome: bool = super()._handshake(conn, denied_reason)
        finally:
            late.cancel()
        conn.timeout = None
        return welcome

    def validateHandshake(self, conn: object, data: object) -> str:
        if not isinstance(data, str) or not hmac.compare_digest(data.encode(), self.token.encode()):
            raise Pyro5.errors.SecurityError("the control token is missing or wrong")
        return "welcome"


class Server:
    def __init__(self, home: Home, desk: Desk) -> None:
        self._home, self._desk = home, desk
        self._daemon: _Daemon | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        _only_msgpack()
        private_folder(self._home.socket.parent)
        self._home.socket.unlink(missing_ok=True)  # the folder's lock is ours, so nobody listens there
        Pyro5.config.SERVERTYPE = "thread"
        Pyro5.config.DETAILED_TRACEBACK = False
        Pyro5.config.MAX_MESSAGE_SIZE = MAX_CALL_BYTES
        self._daemon = _Daemon(unixsocket=str(self._home.socket))
        self._daemon.token = _fresh_token(self._home.token)
        self._daemon.register(Door(loop, self._desk), OBJECT)
        threading.Thread(target=self._daemon.requestLoop, name="front door", daemon=True).start()

    def stop(self) -> None:
        if self._daemon is None:
            return
        self._daemon.shutdown()
        self._home.socket.unlink(missing_ok=True)
        self._home.token.unlink(missing_ok=True)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)


def _peer(connection: socket.socket) -> int:
    """The process at the other end of a local socket."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def _started_by_us(pid: int) -> bool:
    """Workers, and what agents start, descend from this daemon; callers do not. One that is gone is no caller."""
    try:
        return any(parent.pid == os.getpid() for parent in psutil.Process(pid).parents())
    except psutil.NoSuchProcess:
        return True


def _fresh_token(path: Path) -> str:
    token = secrets.token_hex(32)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)
    return token


def _only_msgpack() -> None:
    """The handshake is decoded before the token is known, and marshal can crash an interpreter."""
    Pyro5.config.SERIALIZER = "msgpack"
    for name, serializer in list(Pyro5.serializers.serializers.items()):
        if name != "msgpack":
            del Pyro5.serializers.serializers[name]
            Pyro5.serializers.serializers_by_id.pop(serializer.serializer_id, None)
