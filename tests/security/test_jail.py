"""What the code of an agent may not do to the daemon that runs it, although both have one user id."""

import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agentplatform import Agent, Message
from agentplatform.parcel.spool import MemorySpool
from agentplatform.runners.process import jail
from agentplatform.runners.process.runner import ProcessRunner
from agentplatform.runners.process.settings import WorkerSettings
from ledger.errors import Misuse
from tests.helpers.two_runners import Recorder, Station


class Burglar(Agent):
    """Tries one thing after another, and says what came of it."""

    def handle_message(self, message: Message) -> Any:
        try:
            return str(getattr(self, message.kind)(message.body))
        except OSError as error:
            return type(error).__name__

    def read(self, path: str) -> str:
        with open(path, "rb") as file:
            return repr(file.read(20))

    def write(self, path: str) -> str:
        with open(path, "w") as file:
            file.write("burglar")
        return "written"

    def rename(self, paths: list[str]) -> str:
        os.rename(*paths)
        return "renamed"

    def listing(self, path: str) -> list[str]:
        return os.listdir(path)

    def link(self, path: str) -> str:
        os.link(path, "mine")
        return "linked"

    def kill(self, pid: int) -> str:
        os.kill(pid, 0)
        return "signalled"

    def trace(self, pid: int) -> str:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        attach, detach = 16, 17
        if libc.ptrace(attach, pid, None, None) < 0:
            raise OSError(ctypes.get_errno(), "ptrace")
        libc.ptrace(detach, pid, None, None)
        return "traced"

    def chroot(self, path: str) -> str:
        os.chroot(path)
        return "moved"

    def abstract(self, name: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("\0" + name)
        return "connected"

    def scratch(self, name: str) -> str:
        with open(name, "w+") as file:
            file.write("mine")
            file.seek(0)
            return file.read() + " " + os.environ["HOME"]

    def environment(self, name: str) -> str:
        return str(os.environ.get(name))

    def files(self, _: None) -> list[str]:
        open_files = Path("/proc/self/fd").iterdir()
        return [os.readlink(file) for file in open_files if file.is_symlink()]

    def ordinary(self, _: None) -> str:
        import ssl
        import xml.etree.ElementTree  # not loaded yet

        checks = ssl.create_default_context().check_hostname
        return f"{checks} {xml.etree.ElementTree.XML('<a/>').tag} {len(os.urandom(3))}"


def has_scopes(station: Station) -> bool:
    return int(station.runner.jail.split()[1].partition("+")[0]) >= jail.SCOPES_SINCE_ABI


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    key = folder / "host.key"
    key.write_text("private")
    key.chmod(0o600)
    return key


@pytest_asyncio.fixture
async def jailed(secret: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Station, str]]:
    monkeypatch.setenv("AGENTPLATFORM_SECRET", "password")
    async with Station("here", WorkerSettings(warm=1, private=(secret.parent,))) as station:
        if "landlock" not in station.runner.jail:
            pytest.skip(f"this kernel has no landlock; workers have {station.runner.jail}")
        birth, _ = await station.create(Burglar)
        yield station, birth.agent


async def test_the_hosts_key_is_out_of_reach(jailed: tuple[Station, str], secret: Path) -> None:
    station, burglar = jailed
    daemon = f"/proc/{os.getpid()}"
    for path in (secret, f"{daemon}/root{secret}", f"{daemon}/cwd", "/etc/shadow", Path.home() / ".profile"):
        assert await station.call(burglar, "read", str(path)) in ("PermissionError", "FileNotFoundError"), path
    assert await station.call(burglar, "listing", str(secret.parent)) == "PermissionError"
    assert await station.call(burglar, "link", str(secret)) in ("PermissionError", "OSError")
    assert await station.call(burglar, "rename", [str(secret), "mine"]) in ("PermissionError", "OSError")
    assert secret.read_text() == "private"  # noqa: ASYNC240


async def test_nothing_outside_its_scratch_folder_can_be_written(jailed: tuple[Station, str], tmp_path: Path) -> None:
    station, burglar = jailed
    for path in (tmp_path / "new", "/tmp/burglar-was-here", jail.__file__, "/usr/burglar", "/proc/self/mem"):
        assert await station.call(burglar, "write", str(path)) == "PermissionError", path
    said = await station.call(burglar, "scratch", "notes")
    assert said.startswith("mine ") and "agentplatform-workers-" in said


async def test_neighbours_scratch_folders_are_closed_too(jailed: tuple[Station, str]) -> None:
    station, burglar = jailed
    neighbour, _ = await station.create(Burglar)
    folder = (await station.call(neighbour.agent, "scratch", "notes")).split()[1]
    assert await station.call(burglar, "read", f"{folder}/notes") == "PermissionError"


async def test_the_daemon_cannot_be_traced_signalled_or_looked_into(jailed: tuple[Station, str]) -> None:
    station, burglar = jailed
    daemon, server = os.getpid(), station.runner._pool._server._process.pid  # type: ignore[union-attr]
    neighbour = station.pid((await station.create(Burglar))[0].agent)
    for pid in (daemon, server, neighbour):
        assert await station.call(burglar, "trace", pid) == "PermissionError"
        for file in ("mem", "environ", "maps", "fd/0"):
            assert await station.call(burglar, "read", f"/proc/{pid}/{file}") == "PermissionError"
        if has_scopes(station):
            assert await station.call(burglar, "kill", pid) == "PermissionError"


async def test_it_has_no_powers_and_nothing_of_the_daemons_in_its_hands(jailed: tuple[Station, str]) -> None:
    station, burglar = jailed
    assert await station.call(burglar, "chroot", ".") == "PermissionError"
    assert await station.call(burglar, "environment", "AGENTPLATFORM_SECRET") == "None"
    assert await station.call(burglar, "environment", "HOME") != os.environ.get("HOME")
    files = await station.call(burglar, "files", None)
    assert "/" not in files.replace("/dev/null", "").replace("/proc/", "").replace("/fd'", ""), files
    assert files.count("socket:[") == 4, files  # two to the daemon, and the event loop's own pair


async def test_ordinary_work_goes_on_in_the_jail(jailed: tuple[Station, str]) -> None:
    station, burglar = jailed
    assert await station.call(burglar, "ordinary", None) == "True a 3"


@pytest.fixture
def abstract_server() -> Iterator[str]:
    name = f"agentplatform-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        yield name


async def test_abstract_sockets_of_others_are_closed(jailed: tuple[Station, str], abstract_server: str) -> None:
    station, burglar = jailed
    if not has_scopes(station):
        pytest.skip("this kernel's landlock has no scopes")
    assert await station.call(burglar, "abstract", abstract_server) == "PermissionError"


def test_outside_the_jail_the_burglar_succeeds(secret: Path, abstract_server: str) -> None:
    """The twin: each of these is refused by the jail, and by nothing else."""
    burglar = Burglar()
    assert burglar.handle_message(Message("read", str(secret), "")) == "b'private'"
    assert burglar.handle_message(Message("write", str(secret.parent / "new"), "")) == "written"
    assert burglar.handle_message(Message("read", f"/proc/{os.getpid()}/environ", "")).startswith("b'")
    assert burglar.handle_message(Message("abstract", abstract_server, "")) == "connected"
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        assert burglar.handle_message(Message("kill", child, "")) == "signalled"
        assert burglar.handle_message(Message("trace", child, "")) == "traced"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


async def test_a_data_folder_where_agents_may_look_is_refused() -> None:
    runner = ProcessRunner(Recorder(), MemorySpool(), WorkerSettings(private=(Path("/usr/share/host"),)))
    with pytest.raises(Misuse, match="lies in /usr, which agents may read"):
        await runner.start()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has the kernel forget its caches")
@pytest.mark.parametrize("held", [True, False])
def test_what_may_be_read_in_proc_still_may_when_the_kernel_was_short_of_memory(tmp_path: Path, held: bool) -> None:
    (said, say), (heard, hear) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        strength = jail.close_in(tmp_path)
        if not held:  # the twin
            for file in set(map(int, os.listdir("/proc/self/fd"))) - {0, 1, 2, say, heard}:
                with contextlib.suppress(OSError):
                    os.close(file)
        os.write(say, strength.encode())
        os.read(heard, 1)
        reader = Burglar()
        os.write(say, reader.handle_message(Message("read", "/proc/self/status", "")).encode())
        os._exit(0)
    strength = os.read(said, 100)
    Path("/proc/sys/vm/drop_caches").write_text("2")
    os.write(hear, b"x")
    read = os.read(said, 100)
    os.waitpid(child, 0)
    if b"landlock" not in strength:
        pytest.skip("this kernel has no landlock")
    assert read.startswith(b"b'Name:" if held else b"PermissionError")


class Reader(Agent):
    """Asks for a shared file, and reads it; or tries without asking."""

    def handle_message(self, message: Message) -> Any:
        path = self.shared_file(message.body) if message.kind == "shared" else Path(message.body)
        try:
            return path.read_text()
        except OSError as error:
            return type(error).__name__


@pytest.fixture
def shared(tmp_path: Path, secret: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "faces").mkdir(parents=True)
    (folder / "faces" / "small.onnx").write_text("weights")
    (folder / "out").symlink_to(secret)
    (folder / "home").symlink_to(secret.parent)
    (folder / "link.onnx").symlink_to("faces/small.onnx")
    (tmp_path / "models-of-others").mkdir()
    (tmp_path / "models-of-others" / "theirs").write_text("theirs")
    return folder


async def test_agents_read_what_the_operator_shares_and_nothing_beside_it(shared: Path, secret: Path) -> None:
    settings = WorkerSettings(warm=1, private=(secret.parent,), readable=(shared,))
    async with Station("here", settings) as station:
        if "landlock" not in station.runner.jail:
            pytest.skip(f"this kernel has no landlock; workers have {station.runner.jail}")
        reader = (await station.create(Reader))[0].agent
        for name in ("faces/small.onnx", "link.onnx", str(shared / "faces" / "small.onnx")):
            assert await station.call(reader, "shared", name) == "weights", name
        for name in ("out", "home/host.key", str(secret), str(shared.parent / "models-of-others" / "theirs")):
            answer = await station.ask(reader, "shared", name)
            assert not answer.ok and b"Permission denied" in answer.body, name
        for path in (shared / "out", shared / "home" / "host.key", shared / ".." / secret.name, shared.parent / "home"):
            assert await station.call(reader, "read", str(path)) in ("PermissionError", "FileNotFoundError"), path
        burglar = (await station.create(Burglar))[0].agent
        for verb in ("write", "link"):
            assert await station.call(burglar, verb, str(shared / "faces" / "small.onnx")) in (
                "PermissionError",
                "OSError",
            )
        assert (shared / "faces" / "small.onnx").read_text() == "weights"


async def test_the_folder_of_all_workers_scratch_is_not_shared() -> None:
    given = Path(tempfile.gettempdir())
    with pytest.raises(Misuse, match=f"they would read what others keep in {given}"):
        await ProcessRunner(Recorder(), MemorySpool(), WorkerSettings(readable=(given,))).start()


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("/", "the host's own data"),
        ("{tmp}", "the host's own data"),
        ("{tmp}/home", "the host's own data"),
        ("{tmp}/home/data", "the host's own data"),
        ("{tmp}/around", "the host's own data"),
        ("{tmp}/south/data", "the data of another host"),
        ("{tmp}/hosts", "the data of another host"),
        ("{tmp}/nowhere", "there is no such folder"),
        ("{tmp}/home/host.key", "there is no such folder"),
        ("models", "give its absolute path"),
    ],
)
async def test_a_shared_folder_with_private_data_in_it_is_refused_at_the_start(
    tmp_path: Path, secret: Path, folder: str, reason: str
) -> None:
    for other in (tmp_path / "south", tmp_path / "hosts" / "west"):
        (other / "data").mkdir(parents=True)
        (other / "host.key").write_text("private")
    (secret.parent / "data").mkdir()
    (tmp_path / "around").symlink_to(tmp_path)
    given = Path(folder.format(tmp=tmp_path))
    settings = WorkerSettings(private=(secret.parent,), readable=(given,))
    with pytest.raises(Misuse, match=rf'shares "{given}" with agents.*{reason}'):
        await ProcessRunner(Recorder(), MemorySpool(), settings).start()
