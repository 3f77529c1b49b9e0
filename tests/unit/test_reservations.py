"""What a host promises to agents on their way to it: never twice, and never for longer than it must."""

import random

import pytest

from services.rms.needs import lacking
from services.rms.probes import ScriptedProbe
from services.rms.reservations import SETTLE_S, Reservation, Reservations
from services.rms.resources import MAX_HAS, Minima, Needs, Resources
from services.rms.service import Rms
from tests.helpers.edge_scenes import GIB, resources
from tests.unit.test_rms import key

FREE = resources(memory_free=4 * GIB)
HALF = Minima(memory=3 * GIB)


def asked(least: Minima = HALF, agent: str = "x-1", owner: str = "ada", until: float = 60.0) -> Reservation:
    return Reservation(owner, (agent,), least, until)


class Forgetful(Reservations):
    """Broken: what is reserved is not taken from what is free."""

    def left(self, free: Resources, now: float) -> Resources:
        return free


def granted(reservations: Reservations, seed: int, free: int = 10) -> int:
    """The most memory that was promised at a time, in a walk of offers, arrivals, aborts and time; `free` is there."""
    print("seed", seed)
    draw, now, held, most = random.Random(seed), 0.0, dict[bytes, tuple[int, float]](), 0  # noqa: S311
    there = resources(memory_free=free)
    for step in range(300):
        now += draw.random()
        held = {transfer: each for transfer, each in held.items() if now < each[1]}
        match draw.choice(("offer", "offer", "settled", "abort")):
            case "offer":
                transfer, amount = step.to_bytes(4, "big"), draw.randint(1, free)
                until = now + draw.randint(1, 10)
                if not reservations.take(transfer, asked(Minima(memory=amount), until=until), there, now):
                    held[transfer] = amount, until
            case "abort" if held:
                transfer = draw.choice(sorted(held))
                reservations.release(transfer)
                del held[transfer]
            case "settled" if held:
                transfer = draw.choice(sorted(held))
                reservations.settled(transfer, now)
                held[transfer] = held[transfer][0], min(held[transfer][1], now + SETTLE_S)
        most = max(most, sum(amount for amount, _ in held.values()))
        if not isinstance(reservations, Forgetful):
            left = there.memory_free - sum(amount for amount, _ in held.values())
            assert reservations.left(there, now).memory_free == left, "nothing leaks"
    return most


@pytest.mark.parametrize("seed", range(20))
def test_more_than_there_is_is_never_promised_and_nothing_leaks(seed: int) -> None:
    assert granted(Reservations(), seed) <= 10
    assert granted(Forgetful(), seed) > 10, "the walk would have seen it"


def test_of_two_who_want_the_last_memory_one_gets_it_and_the_other_hears_why() -> None:
    kept = Reservations()
    assert kept.take(b"1", asked(), FREE, 0.0) == ()
    assert kept.take(b"2", asked(agent="y-1"), FREE, 0.0) == (
        f"memory: {3 * GIB} bytes needed, {GIB} free",
        f"reserved for x-1 on their way here: memory {3 * GIB}",
    )
    _, others = kept.take(b"3", asked(agent="z-1", owner="eve"), FREE, 0.0)
    assert others == f"reserved for others on their way here: memory {3 * GIB}"  # no names of another owner's
    kept.release(b"1")
    assert kept.take(b"2", asked(agent="y-1"), FREE, 0.0) == ()


def test_a_reservation_ends_at_its_deadline_and_soon_after_the_arrival() -> None:
    kept = Reservations()
    kept.take(b"1", asked(until=10.0), FREE, 0.0)
    assert kept.left(FREE, 9.9).memory_free == GIB
    assert kept.left(FREE, 10.0) == FREE
    kept.take(b"1", asked(until=60.0), FREE, 11.0)
    kept.settled(b"1", 12.0)
    kept.settled(b"1", 13.0)  # a second word does not make it longer
    assert kept.left(FREE, 12.0 + SETTLE_S - 0.1).memory_free == GIB
    assert kept.left(FREE, 12.0 + SETTLE_S) == FREE
    kept.settled(b"unknown", 0.0)
    kept.release(b"unknown")


def test_asking_again_for_the_same_handoff_counts_once() -> None:
    kept = Reservations()
    assert kept.take(b"1", asked(), FREE, 0.0) == kept.take(b"1", asked(), FREE, 1.0) == ()


def test_each_entry_is_subtracted_and_none_falls_below_nothing() -> None:
    kept = Reservations()
    least = Minima(cpu_cores=1.0, memory=GIB, disk=GIB, bandwidth=600.0)
    kept.take(b"1", asked(least), FREE, 0.0)
    left = kept.left(FREE, 0.0)
    assert (left.cpu_free, left.memory_free, left.disk_free, left.bandwidth) == (0.25, 3 * GIB, 99 * GIB, 400.0)
    busier = resources(cpu_free=0.1, memory_free=5, bandwidth=10.0)  # the probe sees them by now
    assert kept.left(busier, 0.0).memory_free == 0 and kept.left(busier, 0.0).cpu_free == 0.0


def test_what_agents_need_together_is_asked_of_one_host() -> None:
    both = [Needs(least=Minima(memory=3 * GIB), has=("cv2",)), Needs(least=Minima(memory=2 * GIB), has=("av", "cv2"))]
    assert lacking(both, frozenset({"cv2"}), FREE) == ("no av", f"memory: {5 * GIB} bytes needed, {4 * GIB} free")
    assert lacking(both[:1], frozenset({"cv2"}), FREE) == ()


@pytest.mark.parametrize("has", [("",), ("x" * 65,), ("x",) * (MAX_HAS + 1), (7,)])
def test_needs_have_bounds(has: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="an agent needs at most"):
        Needs(has=has)


def test_a_hosts_own_word_counts_what_it_promised() -> None:
    now = [0.0]
    rms = Rms("a", key("a"), ScriptedProbe([FREE]), lambda *_: True, list, lambda _: None, clock=lambda: now[0])
    nothing = Minima()
    assert rms.reserve(b"0", "ada", {"x-1": Needs(least=Minima(memory=1 << 50))}, nothing, 60.0) is None  # no probe yet
    rms.release(b"0")
    rms.advertise()
    assert rms.reserve(b"1", "ada", {"x-1": Needs(least=HALF)}, Minima(disk=GIB), 60.0) is None
    assert "memory" in (rms.reserve(b"2", "ada", {"y-1": Needs(least=HALF)}, nothing, 60.0) or "")
    assert rms.reserve(b"3", "ada", {"z-1": Needs(has=("cv2",))}, nothing, 60.0) == "no cv2"
    rms.advertise()
    assert rms.adverts()["a"].resources.memory_free == GIB
    rms.settled(b"1")
    now[0] = SETTLE_S
    rms.advertise()
    assert rms.adverts()["a"].resources == FREE


