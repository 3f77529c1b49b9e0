"""RMS: resource vectors, link probes, the catalogue, and hosts that hear each other through the edge."""

import math
from pathlib import Path
from typing import Any

import pytest

from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable
from services.rms.catalogue import LIFETIME_S, Advert, Catalogue
from services.rms.link_probe import LOST_AFTER_S, MAX_OUTSTANDING, LinkMeasure, LinkProbe
from services.rms.probes import ScriptedProbe, SystemProbe
from services.rms.resources import Minima, Resources
from services.rms.service import MAX_MESSAGE_BYTES, Ping, Pong, Rms
from tests.helpers.edge_scenes import GIB, resources

PLAIN: dict[str, Any] = {
    "cpu_free": 0.5,
    "cores": 4,
    "memory_free": 4 * GIB,
    "memory_total": 8 * GIB,
    "disk_free": GIB,
    "bandwidth": 100.0,
    "gpus": 1,
    "gpu_free": 0.5,
    "gpu_memory_free": GIB,
    "gpu_memory_total": 2 * GIB,
}


def test_every_shortage_is_named_and_nothing_makes_up_for_another() -> None:
    there = Resources(**PLAIN)
    assert there.shortages(Minima()) == ()
    assert there.shortages(Minima(cpu_cores=2.0, memory=4 * GIB, disk=GIB, bandwidth=100.0, gpus=1)) == ()
    short = there.shortages(
        Minima(cpu_cores=2.5, memory=4 * GIB + 1, disk=2 * GIB, bandwidth=101.0, gpus=2, gpu_memory=2 * GIB)
    )
    assert [line.split(":")[0] for line in short] == [
        "processor",
        "memory",
        "disk",
        "bandwidth",
        "GPUs",
        "GPU memory",
    ]
    assert there.shortages(Minima(memory=5 * GIB)) == (f"memory: {5 * GIB} bytes needed, {4 * GIB} free",)


def test_minima_add_up_entry_by_entry() -> None:
    total = Minima(cpu_cores=1.0, memory=2, disk=3, bandwidth=4.0, gpus=5) + Minima(cpu_cores=0.5, memory=1, gpus=1)
    assert total == Minima(cpu_cores=1.5, memory=3, disk=3, bandwidth=4.0, gpus=6)


@pytest.mark.parametrize(
    "bad",
    [
        {"cpu_free": 1.1},
        {"cpu_free": math.nan},
        {"cores": 0},
        {"memory_free": 9 * GIB},
        {"memory_free": -1},
        {"memory_total": 0},
        {"disk_free": -1},
        {"bandwidth": 0.0},
        {"bandwidth": math.nan},
        {"bandwidth": math.inf},
        {"gpus": -1},
        {"gpu_free": math.nan},
        {"gpu_free": 1.1},
        {"gpu_memory_free": 3 * GIB},
        {"gpu_memory_free": -1},
    ],
)
def test_resources_that_cannot_be_are_refused_here_and_from_others(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Resources(**{**PLAIN, **bad})
    raw = codec.encode({"type": "advert", "resources": {**PLAIN, **bad}, "task_weight": 0.0, "links": {}})
    with pytest.raises(PeerFault, match="beta: sent bytes"):
        Town().hosts["alpha"].received("beta", raw)


def test_the_round_trip_is_a_weighted_mean_of_the_answers() -> None:
    probe = LinkProbe()
    assert probe.measure(0.0) is None
    for start, rtt in ((0.0, 0.008), (1.0, 0.016)):
        number = probe.ping(start)
        assert number is not None
        probe.pong(number, start + rtt)
    measure = probe.measure(2.0)
    assert measure is not None and measure.loss == 0.0
    assert measure.rtt_ms == pytest.approx(8 + (16 - 8) / 8)


def test_probes_without_an_answer_in_time_are_losses_and_a_late_answer_changes_nothing() -> None:
    probe = LinkProbe()
    first, second = probe.ping(0.0), probe.ping(0.0)
    assert first is not None and second is not None
    probe.pong(first, 0.001)
    before = probe.measure(LOST_AFTER_S)
    after = probe.measure(LOST_AFTER_S + 0.1)
    assert before is not None and after is not None
    assert before.loss == 0.0 and after.loss == pytest.approx(1 / 8)
    for number in (second, first, 10**6):  # late, doubled, never asked for
        probe.pong(number, LOST_AFTER_S + 0.2)
    assert probe.measure(LOST_AFTER_S + 0.2) == after


def test_a_silent_host_does_not_make_probes_pile_up() -> None:
    probe = LinkProbe()
    sent = [probe.ping(0.0) for _ in range(MAX_OUTSTANDING + 5)]
    assert sent.count(None) == 5
    assert probe.ping(LOST_AFTER_S + 0.1) is not None


def test_an_advert_lives_for_its_time_and_the_last_one_counts() -> None:
    catalogue = Catalogue(lifetime=5.0)
    old, new = Advert(resources(cpu_free=0.1)), Advert(resources(cpu_free=0.9))
    catalogue.take("beta", old, now=0.0)
    catalogue.take("beta", new, now=2.0)
    catalogue.take("alpha", old, now=1.0)
    assert catalogue.fresh(6.0) == {"alpha": old, "beta": new}
    assert catalogue.fresh(6.5) == {"beta": new}
    assert catalogue.fresh(7.1) == {}


def test_the_system_probe_gives_numbers_that_can_be(tmp_path: Path) -> None:
    read = SystemProbe(tmp_path).read()  # Resources checks itself at birth
    assert read.memory_total > 0 and read.disk_free > 0
    assert SystemProbe(tmp_path, bandwidth=40.0).read().bandwidth == 40.0


def test_a_system_probe_without_its_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be read"):
        SystemProbe(tmp_path / "missing").read()


def test_the_scripted_probe_ends_with_its_last_number() -> None:
    probe = ScriptedProbe([resources(cpu_free=0.1), resources(cpu_free=0.2)])
    assert [probe.read().cpu_free for _ in range(3)] == [0.1, 0.2, 0.2]
    with pytest.raises(Misuse):
        ScriptedProbe([])


class Town:
    """Hosts that are all linked. Messages wait in `post` until `deliver`; each takes `latency` seconds."""

    def __init__(self, names: tuple[str, ...] = ("alpha", "beta", "gamma"), latency: float = 0.01) -> None:
        self.now = 100.0
        self.latency = latency
        self.linked = set(names)
        self.post: list[tuple[str, str, bytes]] = []
        self.hosts = {
            name: Rms(
                name,
                ScriptedProbe([resources(cpu_free=0.1 * (1 + i % 9))]),
                lambda to, message, name=name: self._send(name, to, message),  # type: ignore[misc]
                lambda name=name: self.linked - {name},  # type: ignore[misc]
                task_weight=lambda i=i: float(i),  # type: ignore[misc]
                clock=lambda: self.now,
            )
            for i, name in enumerate(names)
        }

    def _send(self, sender: str, to: str, message: bytes) -> bool:
        self.post.append((sender, to, message))
        return True

    def deliver(self) -> None:
        """All that waits, and the answers to it."""
        while self.post:
            self.now += self.latency
            letters, self.post = self.post, []
            for sender, to, message in letters:
                self.hosts[to].received(sender, message)

    def rounds(self, count: int) -> None:
        for _ in range(count):
            for name in sorted(self.linked):
                self.hosts[name].round()
            self.deliver()


def test_hosts_learn_of_each_other_and_of_the_links_between_others() -> None:
    town = Town()
    town.rounds(2)
    adverts = town.hosts["alpha"].adverts()
    assert {name: advert.resources.cpu_free for name, advert in adverts.items()} == pytest.approx(
        {"alpha": 0.1, "beta": 0.2, "gamma": 0.3}, abs=1e-6
    )
    assert adverts["gamma"].task_weight == 2.0
    links = town.hosts["alpha"].links()
    assert links["alpha", "beta"].rtt_ms == pytest.approx(20.0)
    assert links["beta", "gamma"].rtt_ms == pytest.approx(20.0)  # as beta says of its own links
    assert set(links) == {(a, b) for a in town.hosts for b in town.hosts if a != b}


def test_a_closed_host_says_so_to_all_and_again_when_it_is_open() -> None:
    town = Town()
    town.hosts["beta"].closed = "being drained"
    assert town.hosts["beta"].closed_hosts() == {"beta": "being drained"}  # before anybody was told
    town.rounds(1)
    assert all(host.closed_hosts() == {"beta": "being drained"} for host in town.hosts.values())
    town.hosts["beta"].closed = ""
    town.rounds(1)
    assert all(host.closed_hosts() == {} for host in town.hosts.values())
    with pytest.raises(ValueError, match="why its host is closed"):
        Advert(resources(), closed="x" * 81)


def test_a_host_that_went_is_forgotten_and_its_link_with_it() -> None:
    town = Town()
    town.rounds(2)
    town.linked.remove("gamma")
    town.now += LIFETIME_S + 0.1
    town.rounds(1)
    assert set(town.hosts["alpha"].adverts()) == {"alpha", "beta"}
    assert set(town.hosts["alpha"].links()) == {("alpha", "beta"), ("beta", "alpha")}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        codec.encode({"type": "gossip"}),
        codec.encode({"type": "ping", "number": "one"}),
        codec.encode({"type": "ping", "number": 1, "more": 2}),
        codec.encode({"type": "advert", "resources": PLAIN, "task_weight": -1.0}),
        codec.encode({"type": "advert", "resources": PLAIN, "links": {"x": {"rtt_ms": -1.0, "loss": 0.0}}}),
        codec.encode({"type": "advert", "resources": PLAIN, "links": {"x": {"rtt_ms": 1.0, "loss": math.nan}}}),
        b"\x00" * (MAX_MESSAGE_BYTES + 1),
    ],
)
def test_what_is_no_message_is_refused_and_names_the_sender(raw: bytes) -> None:
    town = Town()
    with pytest.raises(PeerFault, match="beta"):
        town.hosts["alpha"].received("beta", raw)
    assert town.hosts["alpha"].adverts() == {} and town.post == []


def test_a_host_with_very_many_links_still_advertises() -> None:
    town = Town(tuple(f"host-with-a-long-name-{i:041d}" for i in range(600)))
    one = min(town.hosts)
    town.hosts[one].round()
    town.deliver()
    town.hosts[one].round()
    largest = max(len(message) for _, _, message in town.post)
    assert MAX_MESSAGE_BYTES / 2 < largest <= MAX_MESSAGE_BYTES
    town.deliver()
    assert one in town.hosts[max(town.hosts)].adverts()


def test_an_advert_speaks_for_its_sender_only() -> None:
    """The link says who sent it: what an advert claims of links is filed under its sender."""
    town = Town()
    lie = Advert(resources(), links={"alpha": LinkMeasure(0.0, 0.0)})
    town.hosts["alpha"].received("beta", codec.encode(lie))
    assert set(town.hosts["alpha"].links()) == {("beta", "alpha")}


def test_a_pong_that_nobody_asked_for_is_ignored_and_a_ping_is_answered() -> None:
    town = Town()
    town.hosts["alpha"].received("stranger", codec.encode(Pong(0)))
    town.hosts["alpha"].received("beta", codec.encode(Ping(7)))
    assert town.post == [("alpha", "beta", codec.encode(Pong(7)))]
