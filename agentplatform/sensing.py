"""What is measured, and what agents report, held against this host's triggers; what fires is told to the EDS."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from services.eds.events import MAX_NAME, Event, Whom
from services.eds.triggers import TOLD, Subject, Triggers
from services.rms.catalogue import Advert
from services.rms.service import Rms

ROUND_S = 1.0
LINKS = ("rtt_ms", "loss", "bandwidth")
HOSTS = ("cpu_free", "memory_free", "disk_free", "gpu_free")
MAX_REPORTS = 10  # of one agent in a second; more are dropped

log = logging.getLogger(__name__)


class Sensing:
    def __init__(
        self,
        host: str,
        rms: Rms,
        triggers: Triggers,
        happened: Callable[[Event, Whom], None],
        agents: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`agents`: those that run here now."""
        self._host, self._rms, self._triggers, self._happened, self._clock = host, rms, triggers, happened, clock
        self._agents = agents
        self._reports: dict[str, int] = {}  # of each agent, since the last round

    async def run(self) -> None:
        """Rounds, one a second, until cancelled."""
        while True:
            try:
                self.round()
            except Exception:
                log.exception("a round of the triggers failed; the next one comes")
            await asyncio.sleep(ROUND_S)

    def round(self) -> None:
        self._reports.clear()
        adverts = self._rms.adverts()
        subjects: set[Subject] = set()
        for measure, subject, value in measurements(self._host, adverts):
            subjects.add(subject)
            self._measured(measure, subject, value)
        self._triggers.keep((*LINKS, *HOSTS), subjects)
        if told := self._triggers.told:
            self._triggers.keep(told, {(agent,) for agent in self._agents})

    def reported(self, agent: str, kind: str, value: float) -> None:
        """An agent's own word. One that says too much is not heard for the rest of the second."""
        number = self._reports[agent] = self._reports.get(agent, 0) + 1
        if number <= MAX_REPORTS and 0 < len(kind) <= MAX_NAME:
            self._measured(TOLD + kind, (agent,), value)

    def _measured(self, measure: str, subject: Subject, value: float) -> None:
        for fired in self._triggers.measured(measure, subject, value, self._clock()):
            self._happened(fired.event, fired.trigger.groups)


def measurements(host: str, adverts: Mapping[str, Advert]) -> Iterator[tuple[str, Subject, float]]:
    """Of this host's links, which it measured itself, and of what each host says that it has free."""
    own = adverts.get(host)
    for peer, link in own.links.items() if own is not None else ():
        for measure in LINKS:
            value = getattr(link, measure)
            if value is not None:
                yield measure, (host, peer), value
    for name, advert in adverts.items():
        there = advert.resources
        yield "cpu_free", (name,), there.cpu_free
        yield "memory_free", (name,), there.memory_free_part
        yield "disk_free", (name,), float(there.disk_free)
        if there.gpus:
            yield "gpu_free", (name,), there.gpu_free
