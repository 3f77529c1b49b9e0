import ast
import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import pytest_asyncio

import agentplatform
from agentplatform import Agent, Message
from agentplatform.messages import Answer, Arrival, Delivery
from agentplatform.parcel.bundle import Contents
from agentplatform.parcel.code import bundle_of
from agentplatform.parcel.manifest import code_digest, give_birth, open_birth
from agentplatform.runners.process import wire
from agentplatform.runners.process.installed import Installed
from agentplatform.runners.process.requests import FORK, PACKET
from agentplatform.runners.process.settings import WorkerSettings
from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.identity import Identity
from tests.helpers.travellers import Bare, Careless, Counter, Feather, Hasty, Refusing, Stubborn
from tests.helpers.two_runners import OWNER, SECONDS, THERE, Recorder, Station, born, is_alive, until_gone

ROOT = Path(agentplatform.__file__).parents[1]


class Painter(Agent):
    """Has a large array, and things that go wrong."""

    def on_creation(self, init: Any) -> None:
        self.picture = numpy.arange(init, dtype=numpy.uint8)

    def handle_message(self, message: Message) -> Any:
        if message.kind == "paint":
            self.picture[:] = message.body
        if message.kind == "exit":
            os._exit(7)
        if message.kind == "where":
            return os.getcwd()
        if message.kind == "hang":
            open("hanging", "w").close()
            while True:
                pass
        if message.kind == "child":
            return subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True).pid
        return int(self.picture.sum())


@pytest_asyncio.fixture
async def here() -> AsyncIterator[Station]:
    async with Station("here") as station:
        yield station


@pytest_asyncio.fixture
async def there() -> AsyncIterator[Station]:
    async with Station("there") as station:
        yield station


async def test_an_agent_hops_with_its_state(here: Station, there: Station) -> None:
    birth, code = await here.create(Counter, 5)
    assert await here.ups.next("printed") == (birth.agent, "out", "created on here\n")
    assert await here.call(birth.agent, "add", 1) == 6
    state = await here.runner.capture(birth.agent, THERE)
    await there.runner.open(birth, code, state)
    pid = here.pid(birth.agent)
    here.runner.discard(birth.agent)
    there.runner.activate(birth.agent, Arrival("there", 2, "here"))
    hooks = ["creation", "dispatching there", "arrival there from here"]
    assert await there.call(birth.agent, "look") == [6, hooks, 2, "there", 2]
    await until_gone(pid)


async def test_an_agent_that_wishes_to_go_is_captured_already(here: Station) -> None:
    birth, _ = await here.create(Counter, 5)
    assert await here.call(birth.agent, "go", "there") == 5
    agent, destination, state = await here.ups.next("wants_to_go")
    assert (agent, destination) == (birth.agent, "there") and b"creation" in state
    with pytest.raises(Misuse, match="is frozen"):
        await here.runner.capture(agent, THERE)
    here.runner.thaw(agent, "nobody home")
    assert (await here.call(agent, "look"))[:3] == [5, ["creation", "dispatching there", "move failed"], 2]


async def test_an_inert_copy_does_nothing_until_it_is_activated(here: Station, there: Station) -> None:
    birth, code = await here.create(Counter, 5)
    state = await here.runner.capture(birth.agent, THERE)
    await there.runner.open(birth, code, state)
    there.runner.discard(birth.agent)
    here.runner.thaw(birth.agent, None)
    assert await here.call(birth.agent, "add", 1) == 6
    assert not [heard for heard in there.ups.heard if heard[0] != "printed"]
    assert birth.agent not in there.runner._homes


async def test_an_exception_is_an_answer_and_a_traceback_for_the_owner(here: Station) -> None:
    birth, _ = await here.create(Counter)
    assert await here.ask(birth.agent, "fail") == Answer(False, codec.encode("KeyError: 'no such thing'"))
    _, stream, text = await here.ups.next("printed", "Traceback")
    assert stream == "err" and 'raise KeyError("no such thing")' in text
    assert await here.call(birth.agent, "add", 1) == 1


async def test_a_call_goes_out_and_its_answer_comes_back(here: Station) -> None:
    birth, _ = await here.create(Counter)
    asking = asyncio.create_task(here.call(birth.agent, "ask", "deep"))
    agent, outgoing = await here.ups.next("sent")
    assert (agent, outgoing.receiver, outgoing.kind, outgoing.body) == (birth.agent, "deep", "add", b"\x01")
    here.runner.answer(agent, outgoing.call, Answer(True, codec.encode(42)))
    assert await asking == 42


async def test_what_cannot_travel_is_named_and_the_agent_goes_on(here: Station) -> None:
    birth, _ = await here.create(Careless)
    await here.call(birth.agent, "lock")
    with pytest.raises(Misuse, match=r"Careless\.lock: cannot pickle '_thread.lock' object"):
        await here.runner.capture(birth.agent, THERE)
    assert await here.call(birth.agent, "add", 1) == 1
    stubborn, _ = await here.create(Stubborn)
    with pytest.raises(Misuse, match="not to there"):
        await here.runner.capture(stubborn.agent, THERE)
    assert len(await here.call(stubborn.agent, "look")) == 1


async def test_what_an_agent_does_at_once_is_told_after_its_creation(here: Station) -> None:
    birth, _ = await here.create(Hasty, 5)
    assert not here.ups.heard
    assert (await here.ups.next("checkpointed"))[1].letters[0].body == b"\x05"
    assert (await here.ups.next("wants_to_go"))[:2] == (birth.agent, "there")


async def test_a_failed_creation_leaves_nothing(here: Station) -> None:
    with pytest.raises(Misuse, match="ValueError: I would rather not"):
        await here.create(Refusing)
    assert not here.runner._homes


def with_code(contents: Contents, class_name: str) -> tuple[Any, bytes]:
    code = codec.encode(contents)
    raw = give_birth("odd", OWNER, bytes(16), code_digest(code), class_name, False)
    return open_birth(raw, "test"), code


async def test_a_parcel_that_cannot_be_opened_is_refused_with_the_difference(here: Station) -> None:
    bundle = bundle_of(Counter)
    lacking = Contents(bundle.contents.modules, ("lonely_planet",), None, None)
    birth, code = with_code(lacking, bundle.class_name)
    with pytest.raises(Misuse, match="lacks the Python modules lonely_planet"):
        await here.runner.open(birth, code, b"")
    birth, code = with_code(Contents((), (), b"", "3.1"), "__main__:Typed")
    with pytest.raises(Misuse, match=r"Python 3\.1 and opens only there"):
        await here.runner.open(birth, code, b"")
    birth, code = born(Counter)
    with pytest.raises(Misuse, match="the state is broken"):
        await here.runner.open(birth, code, b"nonsense")
    assert not here.runner._homes


@pytest.fixture
def typed_code() -> bytes:
    typed = (
        "from agentplatform import Agent\n"
        "class Typed(Agent):\n"
        "    def on_creation(self, init): self.text = init\n"
        "    def handle_message(self, message): return self.text * 2\n"
        "from agentplatform.parcel.code import bundle_of\n"
        "import sys; sys.stdout.buffer.write(bundle_of(Typed).raw)\n"
    )
    environment = {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", typed], env=environment, stdout=subprocess.PIPE, check=True).stdout


async def test_a_class_typed_at_a_prompt_travels_by_value(here: Station, there: Station, typed_code: bytes) -> None:
    code = typed_code
    birth = open_birth(give_birth("typed", OWNER, bytes(16), code_digest(code), "__main__:Typed", False), "test")
    await here.runner.create(birth, code, codec.encode("ab"), Arrival("here", 1, None))
    state = await here.runner.capture(birth.agent, THERE)
    await there.runner.open(birth, code, state)
    there.runner.activate(birth.agent, Arrival("there", 2, "here"))
    assert await there.call(birth.agent, "say") == "abab"


async def test_a_worker_that_ends_is_told_and_its_agent_gone(here: Station) -> None:
    killed, _ = await here.create(Counter)
    os.kill(here.pid(killed.agent), signal.SIGKILL)
    assert await here.ups.next("died") == (killed.agent, "its worker was ended by SIGKILL")
    exiting, _ = await here.create(Painter, 1)
    asking = asyncio.create_task(here.ask(exiting.agent, "exit"))
    assert await here.ups.next("died") == (exiting.agent, "its worker exited with status 7")
    asking.cancel()
    with pytest.raises(Misuse, match="is not here"):
        await here.runner.capture(exiting.agent, THERE)


async def test_an_agent_that_hangs_is_not_captured_but_can_be_disposed_of() -> None:
    async with Station("here", WorkerSettings(warm=1, capture=0.2)) as here:
        birth, _ = await here.create(Painter, 1)
        pid = here.pid(birth.agent)
        sign = Path(await here.call(birth.agent, "where")) / "hanging"
        here.runner.deliver(birth.agent, Delivery(99, "client-test", "hang", codec.encode(None)))
        while not sign.exists():  # noqa: ASYNC110 - all that it still can tell
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match=r"capture took longer than 0\.2 s"):
            await here.runner.capture(birth.agent, THERE)
        await here.runner.dispose(birth.agent)
        await until_gone(pid)


async def test_disposal_runs_the_last_hook(here: Station) -> None:
    birth, _ = await here.create(Counter)
    await here.runner.dispose(birth.agent)
    assert await here.ups.next("printed", "good-bye") == (birth.agent, "out", "good-bye\n")
    birth, _ = await here.create(Counter)
    await here.call(birth.agent, "end")
    assert await here.ups.next("wants_to_end") == (birth.agent,)
    here.runner.discard(birth.agent)  # nothing is left to discard, and that is no error


async def test_light_agents_of_one_owner_and_code_share_and_strangers_do_not(here: Station) -> None:
    first, _ = await here.create(Feather)
    second, _ = await here.create(Feather)
    stranger, _ = await here.create(Feather, owner=Identity(bytes([1]) * 32))
    heavy, _ = await here.create(Counter)
    shared = here.pid(first.agent)
    assert here.pid(second.agent) == shared
    assert len({shared, here.pid(stranger.agent), here.pid(heavy.agent)}) == 3
    await here.runner.dispose(first.agent)
    await here.ups.next("printed", f"{first.agent!r}, 'out', 'good-bye")
    assert await here.call(second.agent, "add", 1) == 1
    await here.runner.dispose(second.agent)
    third, _ = await here.create(Feather)
    assert here.pid(third.agent) == shared  # it lingered


async def test_agents_of_one_class_keep_its_code_once(here: Station) -> None:
    code = born(Counter)[1]
    for _ in range(2):  # code comes over a link, each time as bytes of its own
        await here.create(Counter)
    one, other = (handle.agents[agent].came for agent, handle in here.runner._homes.items())
    assert one is not None and other is not None
    assert one.code == code and one.code is other.code


async def prepared(station: Station) -> int:
    """The process that waits for an agent that may be back."""
    async with asyncio.timeout(SECONDS):
        while not (waiting := station.runner._pool._prepared):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)
    (handle,) = waiting.values()
    return handle.pid


async def left(station: Station, agent: str) -> tuple[Any, int]:
    """What an agent took along that leaves, and the process that waits for it."""
    state = await station.runner.capture(agent, THERE)
    station.runner.discard(agent)
    return state, await prepared(station)


def closed_in(pid: int) -> list[str]:
    """What the kernel says of a process: its limits, and what it may not gain any more."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    rights = [line for line in status if line.startswith(("Cap", "NoNewPrivs", "Seccomp"))]
    assert "NoNewPrivs:\t1" in rights
    return [*rights, *Path(f"/proc/{pid}/limits").read_text().splitlines()]


async def test_who_comes_back_finds_its_code_opened_and_strangers_do_not(here: Station) -> None:
    birth, code = await here.create(Counter)
    await here.call(birth.agent, "add", 5)
    at_first = here.pid(birth.agent)
    state, waits = await left(here, birth.agent)
    assert waits != at_first  # nothing of the agent itself is left in it
    stranger, _ = await here.create(Counter, owner=Identity(bytes([1]) * 32))
    other, _ = await here.create(Painter, 5)  # of another module, and so of other code
    assert waits not in (here.pid(stranger.agent), here.pid(other.agent))
    assert closed_in(waits) == closed_in(here.pid(other.agent))
    assert here.runner._pool._workers[waits].jail == here.runner.jail
    await here.runner.open(birth, code, state)
    here.runner.activate(birth.agent, Arrival("here", 3, "there"))
    assert here.pid(birth.agent) == waits
    assert await here.call(birth.agent, "add", 1) == 6


async def test_code_that_fails_while_it_is_prepared_is_told_to_who_comes(here: Station) -> None:
    birth, code = await here.create(Counter)
    state = await here.runner.capture(birth.agent, THERE)
    broken = codec.encode(Contents((), (), b"no class", None))
    held = here.runner._homes[birth.agent].agents[birth.agent]
    assert held.came is not None
    held.came = replace(held.came, code=broken)
    here.runner.discard(birth.agent)
    waits = await prepared(here)
    with pytest.raises(Misuse, match="cannot be imported"):
        await here.runner.open(birth, code, state)
    await until_gone(waits)
    await here.runner.open(birth, code, state)  # in another worker
    here.runner.activate(birth.agent, Arrival("here", 3, "there"))
    assert await here.call(birth.agent, "add", 1) == 1


async def test_a_prepared_worker_does_not_wait_for_ever() -> None:
    async with Station("here", WorkerSettings(warm=1, linger=0.05)) as here:
        birth, _ = await here.create(Counter)
        _, waits = await left(here, birth.agent)
        await until_gone(waits)
        assert not here.runner._pool._prepared


async def test_a_prepared_worker_takes_nobodys_place() -> None:
    async with Station("here", WorkerSettings(warm=1, most=4)) as here:
        birth, _ = await here.create(Counter)
        _, waits = await left(here, birth.agent)
        stay = [(await here.create(Counter, owner=Identity(bytes([number]) * 32)))[0] for number in range(1, 5)]
        assert waits not in [here.pid(each.agent) for each in stay]
        await until_gone(waits)
        with pytest.raises(Unavailable, match="may run 4"):
            await here.create(Counter, owner=Identity(bytes([9]) * 32))


async def test_a_prepared_worker_that_ends_is_taken_by_nobody_and_not_ended_again() -> None:
    async with Station("here", WorkerSettings(warm=1)) as here:
        birth, code = await here.create(Counter)
        state, waits = await left(here, birth.agent)
        (handle,) = here.runner._pool._prepared.values()
        os.kill(waits, signal.SIGKILL)
        await until_gone(waits)
        await here.runner.open(birth, code, state)
        assert here.pid(birth.agent) != waits
        async with asyncio.timeout(SECONDS):
            while waits in here.runner._pool._workers:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
        assert handle.idle is not None and handle.idle.cancelled()  # its number may be another's by then


async def test_who_hears_of_one_death_may_write_to_another_agent_of_the_worker() -> None:
    class Mourner(Recorder):
        def _hear(self, name: str, arguments: tuple[Any, ...]) -> None:
            if name == "died":
                for agent in both:
                    here.runner.deliver(agent, here.delivery("add", 1))
            super()._hear(name, arguments)

    async with Station("here", ups=Mourner()) as here:
        both = [(await here.create(Feather))[0].agent for _ in range(2)]
        os.kill(here.pid(both[0]), signal.SIGKILL)
        assert [(await here.ups.next("died", agent))[0] for agent in both] == both


async def test_stop_ends_everything_that_agents_started() -> None:
    async with Station("here") as here:
        birth, _ = await here.create(Painter, 1)
        child = await here.call(birth.agent, "child")
        pids = [child, *here.runner._pool._workers, here.runner._pool._server._process.pid]  # type: ignore[union-attr]
        assert all(is_alive(pid) for pid in pids)
    await until_gone(*pids)


async def test_the_fork_server_is_started_again(here: Station) -> None:
    birth, _ = await here.create(Counter)
    here.runner._pool._server._process.kill()  # type: ignore[union-attr]
    assert "fork server" in (await here.ups.next("died"))[1]
    birth, _ = await here.create(Counter, 3)
    assert await here.call(birth.agent, "add", 1) == 4


async def test_a_host_whose_package_was_upgraded_opens_nobody_and_keeps_whom_it_has(
    here: Station, tmp_path: Path
) -> None:
    file = tmp_path / "version.py"
    file.write_text('__version__ = "1.0"\n')
    here.runner._pool.installed = Installed(file, "1.0")
    birth, _ = await here.create(Counter)
    file.write_text('__version__ = "1.1"\n')
    for now in ("version 1.1 was installed meanwhile", "its package is gone from the disk"):
        with pytest.raises(Unavailable, match=f"runs version 1.0 of agentplatform, and {now}: .* restart it"):
            await here.create(Counter)
        file.unlink(missing_ok=True)
    assert await here.call(birth.agent, "add", 1) == 1
    file.write_text('__version__ = "1.0"\n')  # the old one again
    await here.create(Counter)


async def test_a_worker_that_cannot_start_is_an_error_and_not_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentplatform.runners.process.forkserver.tempfile.mkdtemp", lambda prefix: "/nonexistent")
    with pytest.raises(Unavailable, match="its worker exited with status 1"):
        async with Station("here"):
            pass


async def test_a_killed_daemon_leaves_no_process_behind() -> None:
    daemon = (
        "import asyncio\n"
        "from tests.helpers.travellers import Counter\n"
        "from tests.helpers.two_runners import Station\n"
        "async def main():\n"
        "    async with Station('here') as here:\n"
        "        await here.create(Counter)\n"
        "        server = here.runner._pool._server\n"
        "        print(server._scratch, server._process.pid, *here.runner._pool._workers, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", daemon, stdout=subprocess.PIPE, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    scratch, *rest = (await process.stdout.readline()).decode().split()
    pids = [int(pid) for pid in rest]
    assert len(pids) >= 2
    process.kill()
    await process.wait()
    await until_gone(*pids)
    assert not Path(scratch).exists()  # noqa: ASYNC240


async def test_a_lying_worker_is_believed_in_nothing(here: Station) -> None:
    """Frames for agents that it does not hold, or that these may not send, are dropped; unreadable ones end it."""
    birth, _ = await here.create(Counter)
    other, _ = await here.create(Bare)
    handle = here.runner._homes[birth.agent]
    lies: list[wire.Up] = [
        wire.Printed(other.agent, "out", "lie"),
        wire.Sent(other.agent, "deep", "lie", b"", None, True, False, False, None, False, False),
        wire.Handled(birth.agent, 999, True, b"lie"),
        wire.WantsToEnd("nobody"),
        wire.Done(12345, b"lie"),
    ]
    for lie in lies:
        handle.data_received(bytes(wire.encode(lie)))
    assert "lie" not in repr(here.ups.heard)
    handle.data_received(bytes(wire.encode(wire.Printed(birth.agent, "out", "truth"))))
    assert await here.ups.next("printed", "truth")
    handle.data_received(b"\x00\x00\x00\x01\xc1")
    assert "no frame" in (await here.ups.next("died"))[1]


def test_frames_are_cut_and_limited() -> None:
    reader = wire.up_reader()
    raw = bytes(wire.encode(wire.Ready("a")) + wire.encode(wire.WantsToEnd("b")))
    frames = [frame for at in range(len(raw)) for frame in reader.feed(raw[at : at + 1])]
    assert frames == [wire.Ready("a"), wire.WantsToEnd("b")]
    with pytest.raises(PeerFault, match="announced a frame of"):
        wire.up_reader().feed(b"\xff\xff\xff\xff")
    with pytest.raises(PeerFault, match="length <= 256"):
        wire.up_reader().feed(bytes(wire.encode(wire.WantsToEnd("x" * 300))))


PICKLERS = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}


def imports_of(module: str) -> Iterator[str]:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.is_file():
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def picklers_reached_from(*modules: str) -> set[str]:
    """Modules, reached by imports alone, that import a pickler. The package's __init__ is for clients: skipped."""
    seen: set[str] = {"agentplatform"}
    guilty = set()
    to_do = list(modules)
    while to_do:
        module = to_do.pop()
        if module in seen:
            continue
        seen.add(module)
        wanted = set(imports_of(module))
        if {name.partition(".")[0] for name in wanted} & PICKLERS:
            guilty.add(module)
        to_do += [name for name in wanted if name.partition(".")[0] in ("agentplatform", "services", "ledger")]
    return guilty


def test_nothing_that_the_daemon_imports_can_unpickle() -> None:
    rooms = ["pool", "handle", "forkserver", "wire"]
    daemon = [f"agentplatform.runners.process.{room}" for room in rooms]
    assert picklers_reached_from(*daemon, "agentplatform.parcel.manifest", "agentplatform.mae") == set()


def test_the_check_for_picklers_finds_them_in_a_worker() -> None:
    assert "agentplatform.parcel.state" in picklers_reached_from("agentplatform.runners.process.zygote")


def test_a_fork_server_whose_daemon_dies_with_its_words_unread_ends_in_order(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "agentplatform.runners.process.zygote", str(theirs.fileno()), str(os.getpid())]
    with subprocess.Popen([*command, str(tmp_path)], pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as server:
        theirs.close()
        frames, files = socket.socketpair()
        socket.send_fds(ours, [PACKET.pack(FORK, 0, 0)], [frames.fileno(), files.fileno()])
        select.select([ours], [], [])  # it has answered
        for each in (ours, frames, files):
            each.close()
        assert server.communicate(timeout=SECONDS)[1] == b"" and server.returncode == 0
