"""What a plan costs, in seconds that users wait. Pure."""

from benchmarks.regret.trace import Start, World
from services.eds.experience import expected_ms

REQUESTS = 10.0  # of the user, a second
WORK_MS = 20.0  # of one request on a host that is idle; on a busy one this over what is free of its processors
LEAST_FREE = 0.05
GIVE_UP_MS = 1000.0  # what a request costs that nobody answers: on the way, during a move, on a revoked host
PER_MB = 0.05  # seconds of waiting that moving a megabyte is worth to those who share the links


def weights() -> str:
    return (
        f"cost in seconds of waiting: {REQUESTS:g} requests a second, each (round trip + {WORK_MS:g} ms / free part"
        f" of the processors) / (1 - loss), at most {GIVE_UP_MS:g} ms; during a move each {GIVE_UP_MS:g} ms;"
        f" {PER_MB:g} s for each megabyte moved"
    )


def of_service(world: World, host: str) -> float:
    """A second of service at `host`."""
    rtt_ms, loss = world.access.get(host, (GIVE_UP_MS, 1.0))
    if host in world.revoked or loss >= 1.0:
        return REQUESTS * GIVE_UP_MS / 1000
    answer_ms = (rtt_ms + WORK_MS / max(LEAST_FREE, world.cpu_free[host])) / (1.0 - loss)
    return REQUESTS * min(GIVE_UP_MS, answer_ms) / 1000


def downtime_ms(head: Start, world: World, source: str, destination: str) -> tuple[float, bool]:
    """Of a move, and whether it succeeds. The first is what the hosts would expect too: lost packets go again."""
    rtt_ms, loss = world.links.get((source, destination), (0.0, 1.0))
    if loss >= 1.0 or destination in world.revoked | world.closed | world.refusing:
        return GIVE_UP_MS, False
    return expected_ms(rtt_ms, head.state_bytes, head.mbits) / (1.0 - loss), True


def of_move(head: Start, downtime: float, succeeded: bool) -> float:
    """Charged whole when the move begins, while the time of the trace goes on at the new host: so nobody gains by being
    under way, and the best plan moves only when something changed."""
    return REQUESTS * downtime / 1000 * GIVE_UP_MS / 1000 + (head.state_bytes / 1e6 * PER_MB if succeeded else 0.0)
