"""RMS: resource vectors, link probes, the catalogue, and hosts that hear each other through the edge."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.identity import Identity
from services.rms.adverts import DOMAIN, MAX_LIFETIME_S, Advert, Offers, Statement, Told, proven, read, tell
from services.rms.bandwidth import BURST_BYTES, PART_BYTES, PARTS, Bandwidths
from services.rms.catalogue import Catalogue
from services.rms.link_probe import LOST_AFTER_S, MAX_OUTSTANDING, LinkMeasure, LinkProbe
from services.rms.probes import ScriptedProbe, SystemProbe
from services.rms.resources import Minima, Resources
from services.rms.service import MAX_MESSAGE_BYTES, PINGED_AT_ONCE, Ask, Burst, Draw, Ping, Pong, Rms
from tests.helpers.edge_scenes import GIB, resources
from tests.helpers.virtual_loop import run as run_virtually

LIFETIME_S = 5.0
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


@pytest.mark.parametrize("kind", Minima.__struct_fields__)
def test_what_is_free_is_the_most_that_fits(kind: str) -> None:
    """Planners compare with `free` what they compare with `shortages` elsewhere."""
    there = Resources(**PLAIN)
    most = getattr(there.free, kind)
    assert there.shortages(Minima(**{kind: most})) == ()
    assert len(there.shortages(Minima(**{kind: most + 1}))) == 1


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
        {"bandwidth": 1e7},
        {"cores": 1 << 30},
        {"memory_total": 1 << 62},
        {"disk_free": 1 << 62},
        {"gpus": 1 << 20},
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
    with pytest.raises(PeerFault, match="beta: sent bytes"):
        Town().hosts["alpha"].received("beta", claim("beta", {"resources": {**PLAIN, **bad}}))


def test_the_round_trip_is_a_weighted_mean_of_the_answers() -> None:
    probe = LinkProbe()
    assert probe.measure(0.0) is None
    for number, (start, rtt) in enumerate(((0.0, 0.008), (1.0, 0.016))):
        assert probe.ping(number, start)
        probe.pong(number, start + rtt)
    measure = probe.measure(2.0)
    assert measure is not None and measure.loss == 0.0
    assert measure.rtt_ms == pytest.approx(8 + (16 - 8) / 8)


def test_probes_without_an_answer_in_time_are_losses_and_a_late_answer_changes_nothing() -> None:
    probe = LinkProbe()
    assert probe.ping(1, 0.0) and probe.ping(2, 0.0)
    probe.pong(1, 0.001)
    before = probe.measure(LOST_AFTER_S)
    after = probe.measure(LOST_AFTER_S + 0.1)
    assert before is not None and after is not None
    assert before.loss == 0.0 and after.loss == pytest.approx(1 / 8)
    for number in (2, 1, 10**6):  # late, doubled, never asked for
        probe.pong(number, LOST_AFTER_S + 0.2)
    assert probe.measure(LOST_AFTER_S + 0.2) == after


def test_a_silent_host_does_not_make_probes_pile_up() -> None:
    probe = LinkProbe()
    sent = [probe.ping(number, 0.0) for number in range(MAX_OUTSTANDING + 5)]
    assert sent.count(False) == 5
    assert probe.ping(100, LOST_AFTER_S + 0.1)


def key(host: str) -> Identity:
    return Identity(host.encode()[:32].ljust(32, b"."))


def told(host: str, number: int = 1, advert: Advert | None = None, **terms: Any) -> tuple[Told, Statement]:
    said = Statement(host, number, **{"lifetime": LIFETIME_S, "offers": b"", "advert": advert or PALE, **terms})
    return tell(key(host), said), said


def claim(sender: str, advert: Any, **terms: Any) -> bytes:
    """The message of an advert that no honest host makes, well signed."""
    said = {"host": sender, "number": 1, "lifetime": LIFETIME_S, "offers": b"", **terms}
    body = codec.encode([said["host"], said["number"], said["lifetime"], said["offers"], advert])
    return codec.encode(Told(body, key(sender).sign(DOMAIN, body)))


PALE, BRIGHT = Advert(resources(cpu_free=0.1)), Advert(resources(cpu_free=0.9))


def test_an_advert_lives_for_its_time_and_the_newest_counts() -> None:
    catalogue = Catalogue()
    for at, host, number, advert in ((0.0, "beta", 1, PALE), (2.0, "beta", 2, BRIGHT), (1.0, "alpha", 1, PALE)):
        assert catalogue.take(*told(host, number, advert), now=at)
    assert catalogue.fresh(6.0) == {"alpha": PALE, "beta": BRIGHT}
    assert catalogue.fresh(6.5) == {"beta": BRIGHT}
    assert catalogue.fresh(7.1) == {} and catalogue.told("beta", 7.1) is None


def test_an_advert_that_is_not_newer_is_refused_while_the_last_one_lives() -> None:
    catalogue = Catalogue()
    catalogue.take(*told("beta", 7, BRIGHT), now=0.0)
    for number in (7, 6):
        with pytest.raises(PeerFault, match=f"beta: sent advert {number} again, or late: 7 was heard"):
            catalogue.take(*told("beta", number, PALE), now=1.0)
    assert catalogue.fresh(1.0) == {"beta": BRIGHT}
    catalogue.take(*told("beta", 6, PALE), now=LIFETIME_S + 0.1)  # started again, with its clock set back
    assert catalogue.fresh(LIFETIME_S + 0.1) == {"beta": PALE}


def test_an_advert_proves_to_others_what_its_host_said_and_nothing_else_does() -> None:
    real, said = told("beta", 3, BRIGHT)
    assert proven(real, "beta", key("beta").public) == said
    forged = Told(real.body, key("alpha").sign(DOMAIN, real.body))
    other = Told(real.body, key("beta").sign("agentplatform/vote", real.body))
    changed = Told(told("beta", 4)[0].body, real.signature)
    for bad in (forged, other, changed, Told(real.body, b"")):
        with pytest.raises(PeerFault, match="beta: sent an advert that is not signed with its registered key"):
            proven(bad, "beta", key("beta").public)
    with pytest.raises(PeerFault, match="not signed"):
        proven(real, "beta", None)  # not registered
    with pytest.raises(PeerFault, match="alpha: sent an advert in the name of 'beta'"):
        read(real, "alpha")


@pytest.mark.parametrize("lifetime", [0.0, -1.0, math.nan, math.inf, MAX_LIFETIME_S + 1])
def test_a_lifetime_has_bounds(lifetime: float) -> None:
    with pytest.raises(PeerFault, match="beta: sent bytes that are no Statement"):
        Town().hosts["alpha"].received("beta", claim("beta", PALE, lifetime=lifetime))


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
    """Hosts that are all linked. Messages wait in `post` until `deliver`; each takes `latency` seconds, and `per_mbit`
    seconds for each million bits, all that are sent at once one after the other."""

    def __init__(
        self,
        names: tuple[str, ...] = ("alpha", "beta", "gamma"),
        latency: float = 0.01,
        per_mbit: float = 0.0,
        offers: tuple[str, ...] = ("cv2", "gpu"),
    ) -> None:
        self.now = 100.0
        self.latency, self.per_mbit = latency, per_mbit
        self.linked = set(names)
        self.post: list[tuple[str, str, bytes]] = []
        self.readings = {name: resources(cpu_free=0.1 * (1 + i % 9)) for i, name in enumerate(names)}
        self.sent = dict.fromkeys(names, 0)  # bytes
        self.hosts = {
            name: Rms(
                name,
                key(name),
                ScriptedProbe([self.readings[name]]),
                lambda to, message, name=name: self._send(name, to, message),  # type: ignore[misc]
                lambda name=name: self.linked - {name},  # type: ignore[misc]
                lambda host: key(host).public if host in self.hosts else None,
                offers=frozenset(offers),
                task_weight=lambda i=i: float(i),  # type: ignore[misc]
                clock=lambda: self.now,
                wall=lambda: 1e9 + self.now,
            )
            for i, name in enumerate(names)
        }

    def _send(self, sender: str, to: str, message: bytes) -> bool:
        self.post.append((sender, to, message))
        self.sent[sender] += len(message)
        return True

    def round(self, name: str) -> None:
        self.hosts[name].advertise(self.readings[name])
        self.hosts[name].measure_links()

    def deliver(self) -> None:
        """All that waits, and the answers to it."""
        while self.post:
            self.now += self.latency
            letters, self.post = self.post, []
            for sender, to, message in letters:
                self.now += self.per_mbit * len(message) * 8 / 1e6
                self.hosts[to].received(sender, message)

    def rounds(self, count: int) -> None:
        for _ in range(count):
            for name in sorted(self.linked):
                self.round(name)
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


def test_offers_are_asked_for_once_and_again_when_they_change() -> None:
    town = Town()
    town.rounds(1)
    assert {advert.offers for advert in town.hosts["alpha"].adverts().values()} == {frozenset({"cv2", "gpu"})}
    asked = lambda: [to for _, to, message in town.post if message == codec.encode(Ask())]  # noqa: E731
    town.round("beta")
    letters, town.post = town.post, []
    for sender, to, message in letters:
        town.hosts[to].received(sender, message)
    assert asked() == []  # it is known what the digest stands for
    town.post = []
    town.hosts["beta"]._offers = Offers(("av",))
    town.now += 1
    town.rounds(1)
    assert town.hosts["alpha"].adverts()["beta"].offers == frozenset()  # known by its digest alone: it is asked for
    town.deliver()
    assert town.hosts["alpha"].adverts()["beta"].offers == frozenset({"av"})
    town.hosts["beta"].received("alpha", codec.encode(Ask()))
    town.hosts["beta"].received("alpha", codec.encode(Ask()))
    assert len(town.post) <= 1  # one answer a round, however often it is asked


def test_offers_that_no_advert_speaks_of_are_not_kept() -> None:
    town = Town()
    town.rounds(1)
    town.hosts["alpha"].received("beta", codec.encode(Offers(("bait",))))
    assert town.hosts["alpha"].adverts()["beta"].offers == frozenset({"cv2", "gpu"})


def test_of_a_host_that_offers_something_else_each_time_the_newest_offers_are_kept() -> None:
    catalogue = Catalogue()
    for number in range(50):
        offers = Offers((f"thing {number}",))
        catalogue.take(*told("beta", number, offers=offers.digest()), now=0.0)
        catalogue.offered("beta", offers)
    assert catalogue.fresh(0.0)["beta"].offers == {"thing 49"}
    assert len(catalogue._offers) == 2  # and that of who offers nothing


@pytest.mark.parametrize("every", [0.0, 13.0, math.nan])
def test_rounds_have_bounds(every: float) -> None:
    with pytest.raises(Misuse, match="mend advert_every"):
        Rms("a", key("a"), ScriptedProbe([resources()]), lambda *_: True, list, lambda _: None, every=every)


def test_a_few_hosts_are_pinged_at_a_time_and_all_by_turns() -> None:
    town = Town(tuple(f"h{i:02}" for i in range(3 * PINGED_AT_ONCE)))
    seen: set[str] = set()
    for _ in range(3):
        town.now += 1
        town.round("h00")
        ping = codec.encode(Ping(town.hosts["h00"]._number))
        pinged = [to for _, to, message in town.post if message == ping]
        town.post = []
        assert len(pinged) <= PINGED_AT_ONCE
        seen |= set(pinged)
    assert seen == set(town.hosts) - {"h00"}


def test_signatures_are_checked_at_first_and_by_turns() -> None:
    town = Town()
    bad = lambda number: codec.encode(Told(told("beta", number)[0].body, bytes(64)))  # noqa: E731
    good = lambda number: codec.encode(told("beta", number)[0])  # noqa: E731
    alpha = town.hosts["alpha"]
    with pytest.raises(PeerFault, match="beta: sent an advert that is not signed"):
        alpha.received("beta", bad(1))
    assert "beta" not in alpha.adverts()
    alpha.received("beta", good(2))
    alpha.received("beta", bad(3))  # the link says who it is; but it can show it to nobody
    with pytest.raises(PeerFault, match="not signed"):
        alpha.proof("beta")
    caught = 0
    for number in range(4, 8):  # its turn comes
        town.round("alpha")
        try:
            alpha.received("beta", bad(number))
        except PeerFault:
            caught += 1
    assert caught == 2


def test_what_is_wrong_with_an_advert_that_is_read_late_its_sender_hears_next() -> None:
    town = Town()
    alpha = town.hosts["alpha"]
    alpha.received("beta", codec.encode(told("beta", 5)[0]))
    alpha.received("beta", codec.encode(told("beta", 5, BRIGHT)[0]))  # again: nobody has looked at it yet
    assert alpha.adverts() == {"beta": PALE}
    with pytest.raises(PeerFault, match="beta: sent advert 5 again, or late: 5 was heard"):
        alpha.received("beta", codec.encode(Ping(1)))
    alpha.received("beta", codec.encode(told("beta", 6)[0]))
    alpha.received("beta", claim("beta", PALE, host="gamma", number=7))
    alpha.received("gamma", codec.encode(told("gamma", 1)[0]))  # another's fault is not its own
    assert set(alpha.adverts()) == {"beta", "gamma"}
    with pytest.raises(PeerFault, match="beta: sent an advert in the name of 'gamma'"):
        alpha.received("beta", codec.encode(told("beta", 8)[0]))


def test_what_a_host_heard_it_can_show_to_others() -> None:
    town = Town()
    town.rounds(1)
    shown = town.hosts["alpha"].proof("beta")
    assert shown is not None
    assert proven(shown, "beta", key("beta").public).advert.task_weight == 1.0
    assert town.hosts["alpha"].proof("alpha") is not None and town.hosts["alpha"].proof("delta") is None


@pytest.mark.parametrize(("mbits", "least", "most"), [(20.0, 20 / 3, 20.2), (400.0, 1000.0, 1000.0)])
def test_bandwidth_is_measured_by_bursts_of_a_bounded_size(mbits: float, least: float, most: float) -> None:
    """The hosts' own connections have 1,000 Mbit/s; a link that is quicker has these."""
    town = Town(("alpha", "beta"), latency=0.01, per_mbit=1 / mbits)
    for _ in range(40):
        town.now += 1
        town.rounds(1)
    measured = town.hosts["alpha"].links()["alpha", "beta"].bandwidth
    assert measured is not None and least <= measured <= most
    before = sum(town.sent.values())
    for _ in range(20):
        town.now += 1
        town.rounds(1)
    # Known for a minute: within it, not more than one burst each way in 30 s, and the adverts.
    assert sum(town.sent.values()) - before < 2 * BURST_BYTES + 2 * 25 * 2000


def test_a_burst_that_a_busy_machine_held_up_makes_no_link_narrow() -> None:
    known, own, least_s = Bandwidths(), 1000.0, 0.001
    at = iter(range(0, 10_000, 40))

    def burst(mbits: float) -> float | None:
        now = float(next(at))
        assert known.ask(["beta"], bytes(16), now) == "beta"
        for _ in range(PARTS):
            known.part("beta", bytes(16), PART_BYTES, least_s, now + least_s + BURST_BYTES * 8 / 1e6 / mbits)
        return known.of("beta", own, now + 1)

    assert burst(12.0) is None  # one alone says nothing, and another one is asked for soon
    assert burst(800.0) == own
    at = iter(range(110, 10_000, 70))
    assert [burst(mbits) for mbits in (9.0, 10.0, 11.0)] == [own, own, pytest.approx(11.0)]
    assert known.of("beta", 8.0, 300.0) == 8.0  # no more than this host has itself
    assert known.of("beta", own, 10_000.0) is None


def test_rounds_begin_on_the_second_at_all_hosts_and_links_are_measured_in_between() -> None:
    async def seconds_of(begins_at: float) -> list[tuple[str, float]]:
        loop, sent = asyncio.get_running_loop(), []

        def wall() -> float:
            return begins_at + loop.time()

        def send(_: str, message: bytes) -> bool:
            kind = codec.decode(message, Told | Ping, "alpha")  # type: ignore[arg-type]
            sent.append((type(kind).__name__, round(wall() % 1, 3)))
            return True

        probe = ScriptedProbe([resources()])
        rms = Rms("alpha", key("alpha"), probe, send, lambda: ["beta"], lambda _: None, clock=loop.time, wall=wall)
        task = asyncio.create_task(rms.run())
        await asyncio.sleep(3.9)
        task.cancel()
        return sent

    early, late = (run_virtually(seconds_of(at)) for at in (1000.25, 1000.75))
    assert early[:2] == [("Told", 0.25), ("Ping", 0.75)]  # the first at once
    assert late[:2] == [("Told", 0.75), ("Ping", 0.25)]
    assert set(early[2:]) == set(late[2:]) == {("Told", 0.0), ("Ping", 0.5)}


def test_a_probe_that_fails_in_a_way_of_its_own_does_not_silence_the_host() -> None:
    class Moody:
        readings = 0

        def read(self) -> Resources:
            self.readings += 1
            if self.readings == 2:
                raise ValueError("no host has so many processors")
            return resources()

    async def numbers() -> int:
        sent: list[bytes] = []
        send = lambda _, message: not sent.append(message)  # type: ignore[func-returns-value]  # noqa: E731
        rms = Rms("alpha", key("alpha"), Moody(), send, lambda: ["beta"], lambda _: None, every=0.1)
        task = asyncio.create_task(rms.run())
        async with asyncio.timeout(10):
            while sum(isinstance(codec.decode(each, Told | Ping, "alpha"), Told) for each in sent) < 3:  # type: ignore[arg-type]  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        task.cancel()
        return len(sent)

    assert asyncio.run(numbers()) > 3


def test_of_two_words_about_a_link_the_worse_counts() -> None:
    town = Town(("alpha", "beta", "gamma"))
    praise = Advert(resources(), links={"alpha": LinkMeasure(0.1, 0.0, 9e5), "ghost": LinkMeasure(0.1, 0.0, 9e5)})
    truth = Advert(resources(), links={"beta": LinkMeasure(8.0, 0.5, 10.0)})
    gamma = town.hosts["gamma"]
    gamma.received("beta", codec.encode(told("beta", 1, praise)[0]))
    gamma.received("alpha", codec.encode(told("alpha", 1, truth)[0]))
    links = gamma.links()
    assert links["beta", "alpha"] == links["alpha", "beta"] == LinkMeasure(8.0, 0.5, 10.0)
    assert links["beta", "ghost"].bandwidth == 9e5  # nobody else speaks of it


def test_a_burst_that_nobody_asked_for_is_no_measure_and_one_host_cannot_have_all() -> None:
    town = Town(("alpha", "beta"), per_mbit=0.1)
    alpha = town.hosts["alpha"]
    town.rounds(1)
    town.round("alpha")  # asks beta for a burst
    town.post = []
    for nonce in (bytes(16), b"x" * 16):
        for _ in range(4):
            alpha.received("beta", codec.encode(Burst(nonce, bytes(32 * 1024))))
    assert alpha.links()["alpha", "beta"].bandwidth is None
    town.now += 60
    for _ in range(100):
        alpha.received("beta", codec.encode(Draw(bytes(16))))
    assert BURST_BYTES <= sum(len(message) for _, _, message in town.post) < BURST_BYTES + 4096


def test_a_large_state_that_came_is_a_measure_too() -> None:
    known = Bandwidths()
    known.transferred("beta", 1 << 10, 1e-9, 0.0)  # too small to tell
    assert known.of("beta", 2000.0, 0.0) is None
    known.transferred("beta", 125_000_000, 1.0, 1.0)
    known.transferred("beta", 125_000_000, 2.0, 2.0)
    assert known.of("beta", 2000.0, 3.0) == pytest.approx(750.0) and known.of("beta", 600.0, 3.0) == 600.0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        codec.encode(["gossip"]),
        codec.encode(["ping", "one"]),
        codec.encode(["ping", 1, 2]),
        codec.encode(["draw", b"short"]),
        codec.encode(["offers", [["x"] * 251]]),
        codec.encode(["offers", ["x" * 41]]),
        claim("beta", {"resources": PLAIN, "task_weight": -1.0}),
        claim("beta", {"resources": PLAIN, "task_weight": math.nan}),
        claim("beta", {"resources": PLAIN, "closed": "x" * 81}),
        claim("beta", {"resources": PLAIN, "links": {"x": [-1.0, 0.0]}}),
        claim("beta", {"resources": PLAIN, "links": {"x": [1.0, math.nan]}}),
        claim("beta", {"resources": PLAIN, "links": {"x": [1.0, 0.0, 1e7]}}),
        claim("beta", {"resources": PLAIN, "links": {"x": [1.0, 0.0, math.nan]}}),
        claim("beta", {"resources": PLAIN, "links": {str(i): [1.0, 0.0] for i in range(513)}}),
        claim("beta", PALE, host="alpha"),
        claim("beta", PALE, host="gamma"),
        claim("beta", PALE, number=-1),
        claim("beta", PALE, offers=bytes(33)),
        claim("beta", {"resources": PLAIN, "offers": ["bait"]}),
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
    for _ in range(600 // PINGED_AT_ONCE + 2):
        town.now += 1
        town.round(one)
        largest = max(len(message) for _, _, message in town.post if len(message) < 33_000 or b"advert" in message[:9])
        town.post = [each for each in town.post if one in each[:2] and len(each[2]) < 64]  # pings alone
        town.deliver()
    assert MAX_MESSAGE_BYTES / 2 < largest <= MAX_MESSAGE_BYTES
    town.round(one)
    town.deliver()
    assert one in town.hosts[max(town.hosts)].adverts()


def test_a_pong_that_nobody_asked_for_is_ignored_and_a_ping_is_answered() -> None:
    town = Town()
    town.hosts["alpha"].received("stranger", codec.encode(Pong(0)))
    town.hosts["alpha"].received("beta", codec.encode(Ping(7)))
    assert town.post == [("alpha", "beta", codec.encode(Pong(7)))]
