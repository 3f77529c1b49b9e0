"""The checker of histories: each rule with a history that keeps it and one that breaks it; then models with faults."""

import json
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks import history_check
from tests.helpers import history_checker
from tests.helpers.history_checker import Line, Malformed, check, read, summary
from tests.helpers.history_model import Model

Row = tuple[str, str, dict[str, Any]]  # file ("north.1", "north.1.worker"), event, further fields


def history(*rows: Row) -> list[Line]:
    lines = []
    for number, (file, event, fields) in enumerate(rows, 1):
        host, incarnation = file.split(".")[:2]
        data = {"t": float(number), "host": host, "incarnation": int(incarnation), "event": event} | fields
        lines.append(Line(f"{file}:{number}", data))
    return lines


def run(file: str, epoch: int, event: str = "running", **more: Any) -> Row:
    return f"{file}.worker", event, {"agent": "a", "epoch": epoch} | more


def custody(file: str, event: str, epoch: int, transfer: str = "t1") -> Row:
    return file, event, {"agent": "a", "epoch": epoch, "transfer": transfer}


def post(file: str, event: str, sequence: int, sender: str = "client-1") -> Row:
    return file, event, {"sender": sender, "sequence": sequence, "receiver": "a"}


def kill(host: str) -> Row:
    return "driver.1", "fault", {"fault": "kill", "on": host}


BORN = (run("north.1", 0), custody("north.1", "active", 0, ""))
HOP = (
    run("north.1", 0, "frozen"),
    custody("north.1", "offer", 1),
    custody("north.1", "prepare", 1),
    custody("east.1", "received", 1),
    custody("north.1", "commit", 1),
    custody("north.1", "notice", 1),
    run("east.1", 1),
    custody("east.1", "active", 1),
)

GOOD = {
    "a birth": BORN,
    "a hop": (*BORN, *HOP),
    "an abort": (*BORN, *HOP[:4], run("north.1", 0)),
    "a kill at rest": (*BORN, kill("north"), run("north.2", 0)),
    "an end that nobody saw": (*BORN, run("north.2", 0)),
    "a kill before COMMIT": (*BORN, *HOP[:4], kill("north"), run("north.2", 0)),
    "a kill after COMMIT": (*BORN, *HOP[:5], kill("north"), custody("north.2", "commit", 1), *HOP[5:]),
    "a kill after ACTIVE": (*BORN, *HOP, kill("east"), run("east.2", 1)),
    "a hop back": (
        *(*BORN, *HOP, run("east.1", 1, "frozen")),
        *(custody("east.1", "commit", 2, "t2"), custody("east.1", "notice", 2, "t2"), run("north.1", 2)),
    ),
    "a worker that ended alone": (
        *BORN,
        custody("north.1", "frozen", 0),
        ("north.1.next", "running", {"agent": "a", "epoch": 0}),
    ),
    "an end that was asked for": (*BORN, run("north.1", 0, "frozen", ended=True)),
    "a creation that was never confirmed": (run("north.1", 0), kill("north")),
    "a history that begins late": (run("north.4", 7), custody("north.4", "active", 7, "t9")),
    "messages": (
        *(*BORN, post("east.1", "sent", 1), post("north.1", "handled", 1), post("east.1", "acked", 1)),
        *(post("north.1", "handled", 3), post("north.1", "handled", 1, "agent-x")),
    ),
    "effects": (("driver.1", "effect", {"effect": "x"}), ("driver.1", "effect", {"effect": "y"})),
}

BAD: dict[str, tuple[Row, ...]] = {
    "two copies run": (*BORN, *HOP[1:]),
    "one epoch on two hosts": (*BORN, kill("north"), run("east.1", 0)),
    "an old copy runs": (*BORN, *HOP, run("east.1", 1, "frozen"), run("north.1", 0)),
    "an old copy acts": (
        *(*BORN, *HOP),
        ("driver.1", "fault", {"fault": "refused", "agent": "a", "epoch": 0, "newer": 1}),
    ),
    "it runs after its departure was committed": (*BORN, *HOP[:5], run("north.1", 0)),
    "it ran while its departure was committed": (*BORN, *HOP[1:5], run("north.1", 0, "frozen"), *HOP[5:]),
    "a notice before its commit": (*BORN, *HOP[:4], HOP[5], HOP[4], *HOP[6:]),
    "it runs without a notice": (*BORN, *HOP[:4], run("east.1", 1)),
    "lost": (*BORN, *HOP[:6]),
    "acknowledged, not handled": (*BORN, post("east.1", "acked", 1)),
    "acknowledged before it was handled": (*BORN, post("east.1", "acked", 1), post("north.1", "handled", 1)),
    "handled out of order": (*BORN, post("north.1", "handled", 2), post("north.1", "handled", 1)),
    "handled twice": (*BORN, post("north.1", "handled", 1), post("east.1", "handled", 1)),
    "an effect twice": (("driver.1", "effect", {"effect": "x"}), ("driver.1", "effect", {"effect": "x"})),
}


@pytest.mark.parametrize("name", GOOD)
def test_nothing_is_found_where_all_is_well(name: str) -> None:
    assert [str(violation) for violation in check(history(*GOOD[name]))] == []


@pytest.mark.parametrize("rule", history_checker.RULES)
def test_each_rule_finds_what_breaks_it_and_shows_the_lines(rule: str) -> None:
    lines = history(*BAD[rule])
    found = {violation.rule: violation for violation in check(lines)}
    assert rule in found and set(found[rule].lines) <= set(lines)
    assert all(str(line) in str(found[rule]) for line in found[rule].lines)
    assert sum(summary(found.values()).values()) == len(found)


@pytest.mark.parametrize(
    ("what", "rows", "rule"),
    [
        ("killed for good", (*BORN, kill("north")), "lost"),
        ("killed on the way", (*BORN, *HOP[:7], kill("east")), "lost"),
        ("its host came back without it", (*BORN, ("north.2", "commit", {"agent": "b", "epoch": 1})), "lost"),
        ("twice in one process", (*BORN, run("north.1", 0)), "two copies run"),
        ("twice on one host", (*BORN, ("north.1.other", "running", {"agent": "a", "epoch": 0})), "two copies run"),
        ("two destinations", (*BORN, *HOP, kill("east"), run("south.1", 1)), "one epoch on two hosts"),
        ("active alone", (*BORN, *HOP, custody("south.1", "active", 1)), "one epoch on two hosts"),
        ("old, after a kill", (*BORN, *HOP, kill("east"), run("north.2", 0)), "an old copy runs"),
    ],
)
def test_other_ways_to_break_them(what: str, rows: tuple[Row, ...], rule: str) -> None:
    assert rule in {violation.rule for violation in check(history(*rows))}


def test_nobody_is_missed_in_a_history_that_did_not_come_to_rest() -> None:
    assert check(history(*BAD["lost"]), at_rest=False) == []


def test_a_held_agent_comes_back_without_a_notice_but_never_beside_its_old_copy() -> None:
    old, new = run("north.1", 0, custody="held"), run("east.1", 1, custody="held")
    assert check(history(old, BORN[1], kill("north"), new)) == []
    assert [found.rule for found in check(history(old, BORN[1], new))] == ["two copies run"]


def test_a_copy_that_was_followed_while_its_host_was_stopped_may_say_later_that_it_is_over() -> None:
    old, new, over = run("north.1", 0, custody="held"), run("east.1", 1, custody="held"), run("north.1", 0, "frozen")
    stop, wake = [("driver.1", "fault", {"fault": each, "on": "north"}) for each in ("stop", "wake")]
    assert check(history(old, BORN[1], stop, new, wake, over)) == []
    for what, rows in (
        ("nobody stopped it", (old, BORN[1], new, over)),
        ("it runs on", (old, BORN[1], stop, new, wake)),
        ("it was awake by then", (old, BORN[1], stop, wake, new, over)),
        ("it began while its host was stopped", (BORN[1], stop, old, new, wake, over)),
        ("another host was stopped", (old, BORN[1], (*stop[:2], {"fault": "stop", "on": "south"}), new, wake, over)),
    ):
        assert [found.rule for found in check(history(*rows))] == ["two copies run"], what


def test_a_copy_that_was_declared_runs_without_a_notice_but_never_on_two_hosts() -> None:
    """Its source was killed while it was on offer, and is lost."""
    offered = (*BORN, *HOP[:4], kill("north"))
    declared, runs = custody("east.1", "declared", 2), run("east.1", 2)
    assert check(history(*offered, declared, runs)) == []
    assert [found.rule for found in check(history(*offered, runs))] == ["it runs without a notice"]
    rival = custody("south.1", "declared", 2, "t2"), run("south.1", 2)
    assert "two copies run" in {found.rule for found in check(history(*offered, declared, runs, *rival))}


# Files


def write(folder: Path, files: dict[str, list[dict[str, Any]]]) -> None:
    for name, lines in files.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_line_that_was_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    model = Model(Random(1))  # noqa: S311
    write(tmp_path, model.files)
    (tmp_path / "east.9.jsonl").write_text('{"t": 1.0, "host": "ea')
    assert [line.event for line in read(tmp_path)] == ["running", "active"] * 3


@pytest.mark.parametrize("text", ["no json\n", '{"t": 1.0}\n', "[1]\n", '{"t": "x", "host": "n", "event": "e"}\n'])
def test_what_is_no_history_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "north.jsonl").write_text(text)
    with pytest.raises(Malformed, match=r"north\.jsonl:1 is no line"):
        read(tmp_path)


def test_the_command_prints_what_it_found_and_says_so_in_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Model(Random(2))  # noqa: S311
    model.run(50)
    write(tmp_path, model.files)
    assert history_check.main([str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["violations"] == 0
    (tmp_path / "x.jsonl").write_text(
        2 * '{"t": 1.0, "host": "driver", "incarnation": 1, "event": "effect", "effect": 7}\n'
    )
    assert history_check.main([str(tmp_path)]) == 1
    *said, last = capsys.readouterr().out.splitlines()
    assert "an effect twice: 7" in said and any("x.jsonl:2" in line for line in said)
    assert json.loads(last)["messages_doubled"] == 1
    (tmp_path / "x.jsonl").write_text("?\n")
    assert history_check.main([str(tmp_path)]) == 2


# Models, with a fault in each


def lines_of(model: Model) -> list[Line]:
    rows = [Line(f"{file}:{number}", line) for file, its in model.files.items() for number, line in enumerate(its, 1)]
    return sorted(rows, key=lambda line: line.t)


def drop(lines: list[Line], random: Random, event: str) -> list[Line]:
    gone = random.choice([line for line in lines if line.event == event])
    return [line for line in lines if line is not gone]


def again(lines: list[Line], random: Random, event: str, **changed: Any) -> list[Line]:
    """One line a second time, a little later, on `changed`."""
    index, line = random.choice([pair for pair in enumerate(lines) if pair[1].event == event])
    twin = Line("twin.jsonl:1", line.data | {"t": line.t + 1e-6} | changed)
    return [*lines[: index + 1], twin, *lines[index + 1 :]]


def unhandled(lines: list[Line], random: Random) -> list[Line]:
    acked = random.choice([line for line in lines if line.event == "acked"])
    key = "sender", "receiver", "sequence"
    return [
        line
        for line in lines
        if line.event != "handled" or [line[each] for each in key] != [acked[each] for each in key]
    ]


FAULTS = {
    "a source that goes on": (lambda lines, random: drop(lines, random, "frozen"), "duplicated"),
    "a copy beside": (lambda lines, random: again(lines, random, "running", host="west"), "duplicated"),
    "a message twice": (lambda lines, random: again(lines, random, "handled"), "messages_doubled"),
    "an effect twice": (lambda lines, random: again(lines, random, "effect"), "messages_doubled"),
    "a false word": (unhandled, "messages_lost"),
    "no commit": (lambda lines, random: drop(lines, random, "commit"), "duplicated"),
    "no notice": (lambda lines, random: drop(lines, random, "notice"), "duplicated"),
}


def test_models_of_random_lives_keep_all_rules_and_each_fault_in_them_is_found() -> None:
    first = time.time_ns() % 1_000_000
    print(f"seeds from {first}")
    for seed in range(first, first + 20):
        random = Random(seed)  # noqa: S311
        model = Model(random)
        model.move()
        model.abort()
        model.run(120)
        lines = lines_of(model)
        assert check(lines) == [], seed
        for name, (fault, kind) in FAULTS.items():
            assert summary(check(fault(lines, random)))[kind] > 0, (seed, name)
