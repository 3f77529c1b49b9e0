"""A receiver of effects outside the platform: it applies each id once, and hears no copy that is out of date. There is
to be no such copy that speaks."""

import asyncio
import json

from agentplatform.history import History


class Effects:
    """Writes `effect` for what it applied, and a `fault` for what it refused. Listens on a port of the loopback; use it
    with `async with`."""

    def __init__(self, history: History) -> None:
        self.applied: set[str] = set()
        self.refused = 0  # from epochs that are over
        self.port = 0
        self._epochs: dict[str, int] = {}
        self._history = history

    async def __aenter__(self) -> "Effects":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = json.loads(await reader.readline())
            writer.write(self._take(asked["effect"], asked["agent"], asked["epoch"]).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, KeyError):
            pass  # its host was killed
        finally:
            writer.close()

    def _take(self, effect: str, agent: str, epoch: int) -> str:
        if epoch < self._epochs.get(agent, 0):
            self.refused += 1
            self._history.write("fault", fault="refused", agent=agent, epoch=epoch, newer=self._epochs[agent])
            return "old"
        self._epochs[agent] = epoch
        if effect not in self.applied:
            self.applied.add(effect)
            self._history.write("effect", effect=effect)
        return "done"
