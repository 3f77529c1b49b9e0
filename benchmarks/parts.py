"""Where the time of a hop goes: from the histories of two hosts and the notes of `benchmarks.migration_mae`. Pure.

Notes are `leaves` and `comes` (a handoff message, by its transfer) and `opened` (with when that began).
"""

import statistics
from collections.abc import Iterable
from typing import Any

PARTS = ("freeze", "capture", "wire", "verify", "open", "journal", "start")
Line = dict[str, Any]


def of_hops(lines: Iterable[Line], agent: str, times: list[float]) -> list[dict[str, float]]:
    """Milliseconds of each part of each hop; the parts of a hop are its whole time.

    `times`: of the agent's last hops, from `self.dispatch` to `on_arrival`, in their order. Freeze: until the agent
    stands still. Capture: until the offer leaves, with what it waits for. Wire: offer, accept and notice on their way.
    Verify: from the offer until it is opened. Journal: until RECEIVED, and COMMIT, are durable and their messages
    leave. Start: from the notice to the first hook.
    """
    by_time = sorted(lines, key=lambda line: float(line["t"]))
    arrivals = [line for line in by_time if line["event"] == "running" and line["agent"] == agent][-len(times) :]
    return [_parts(by_time, arrival, took) for arrival, took in zip(arrivals, times, strict=True)]


def medians(hops: list[dict[str, float]]) -> dict[str, float]:
    return {part: round(statistics.median(hop[part] for hop in hops), 3) for part in PARTS}


def _parts(lines: list[Line], arrival: Line, took: float) -> dict[str, float]:
    agent, epoch = arrival["agent"], arrival["epoch"]
    transfer = next(
        line["transfer"]
        for line in lines
        if line["event"] == "commit" and (line["agent"], line["epoch"]) == (agent, epoch)
    )
    of_transfer = [line for line in lines if line.get("transfer") == transfer]

    def when(event: str, message: str | None = None) -> float:
        return next(
            float(line["t"]) for line in of_transfer if line["event"] == event and line.get("message") == message
        )

    offered, came = when("leaves", "Offer"), when("comes", "Offer")
    accepted, agreed = when("leaves", "Accept"), when("comes", "Accept")
    noticed, told = when("leaves", "Notice"), when("comes", "Notice")
    opened = next(line for line in lines if line["event"] == "opened" and came <= line["begin"] <= accepted)
    frozen = [
        float(line["t"])
        for line in lines
        if line["event"] == "frozen" and line["agent"] == agent and line["t"] <= offered
    ][-1]
    begun, done, ran = float(opened["begin"]), float(opened["t"]), float(arrival["t"])
    seconds = {
        "capture": offered - frozen,
        "wire": came - offered + agreed - accepted + told - noticed,
        "verify": begun - came,
        "open": done - begun,
        "journal": accepted - done + noticed - agreed,
        "start": ran - told,
    }
    return {"freeze": took - (ran - frozen) * 1000} | {part: value * 1000 for part, value in seconds.items()}
