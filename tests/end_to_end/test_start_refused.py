"""A daemon that must not start says why in one line, exits with 2, and leaves everything as it was."""

import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agentplatform.console import processes
from agentplatform.consortium import found
from agentplatform.settings import Home
from ledger.errors import Misuse
from tests.helpers.local import small

DATABASES = ("custody", "dms", "ledger")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (home,) = found(tmp_path / "root", ["solo"])
    small(home)
    return home


def refused(home: Home, *before: Path) -> str:
    """The one line of a daemon that does not start. `before`: where Python looks for packages first."""
    path = os.pathsep.join(str(each) for each in (*before, ROOT))
    done = subprocess.run(
        [sys.executable, "-m", "agentplatform.mae", "--home", str(home.folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=home.folder,
        env=os.environ | {"PYTHONPATH": path},
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("mae: ")]
    assert (done.returncode, len(said), done.stdout) == (2, 1, ""), done.stderr
    assert "Traceback" not in done.stderr
    return said[0]


def test_a_second_daemon_on_one_folder(home: Home) -> None:
    root = home.folder.parents[1]
    try:
        (first,) = processes.start(root, ["solo"])
        assert f"in use by process {first['pid']}" in refused(home)
        assert processes.start(root, ["solo"]) == [first | {"started": False}]  # it still answers
    finally:
        processes.stop(root, ["solo"])


def test_a_port_in_use(home: Home) -> None:
    host, port = home.settings().listen.split(":")
    with socket.socket() as taken:
        taken.bind((host, int(port)))
        taken.listen()
        line = refused(home)
    assert port in line and "in use" in line


@pytest.mark.parametrize("name", DATABASES)
def test_a_database_that_is_none(home: Home, name: str) -> None:
    file = home.data / f"{name}.db"
    home.data.mkdir(mode=0o700)
    garbage = os.urandom(10_000)
    file.write_bytes(garbage)
    line = refused(home)
    assert f"{name}.db" in line and "backup" in line
    assert file.read_bytes() == garbage


def test_a_database_of_another_application(home: Home) -> None:
    home.data.mkdir(mode=0o700)
    with sqlite3.connect(home.data / "custody.db") as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    before = (home.data / "custody.db").read_bytes()
    assert "custody.db" in refused(home)
    assert (home.data / "custody.db").read_bytes() == before


def test_a_database_that_was_damaged(home: Home) -> None:
    root = home.folder.parents[1]
    try:
        processes.start(root, ["solo"])
    finally:
        processes.stop(root, ["solo"])
    for name in DATABASES:
        file = home.data / f"{name}.db"
        whole = file.read_bytes()
        damaged = bytearray(whole)
        damaged[100:108] = b"\xff" * 8  # the head of the first page: what tables there are
        file.write_bytes(damaged)
        assert f"{name}.db" in refused(home)
        assert file.read_bytes() == damaged
        file.write_bytes(whole)


@pytest.mark.parametrize("name", ["agents", "services", "ledger"])
def test_another_distributions_package_in_the_way(home: Home, tmp_path: Path, name: str) -> None:
    foreign = tmp_path / "foreign" / name
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_text("raise SystemExit('a foreign package was imported')\n")
    line = refused(home, foreign.parent)
    assert f"the package {name!r} that Python finds ({foreign}" in line
    assert "another distribution is in the way" in line and "environment of its own" in line


@pytest.mark.parametrize(("program", "name"), [("command_line", "agentplatform"), ("shell", "agent-shell")])
def test_another_distributions_package_in_the_way_of_people(tmp_path: Path, program: str, name: str) -> None:
    foreign = tmp_path / "services"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise SystemExit('a foreign package was imported')\n")
    run = f"import sys; from agentplatform import programs; sys.exit(programs.{program}())"
    done = subprocess.run(
        [sys.executable, "-c", run],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == 2 and done.stderr.startswith(f"{name}: the package 'services'"), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_is_no_hosts(home: Home) -> None:
    home.settings_file.unlink()
    assert "has no host.toml" in refused(home)


@pytest.mark.parametrize(
    ("line", "says"), [("surprise = 1", "surprise"), ("host = 3", "host"), ("= what", "host.toml"), ("\0", "host.toml")]
)
def test_settings_that_cannot_be_read(home: Home, line: str, says: str) -> None:
    home.settings_file.write_text(f"{line}\n{home.settings_file.read_text()}")
    with pytest.raises(Misuse, match="mend it and start again") as error:
        home.settings()
    assert says in str(error.value)


def test_a_daemon_whose_settings_cannot_be_read(home: Home) -> None:
    home.settings_file.write_text("\0")
    assert "host.toml" in (said := refused(home)) and "mend it and start again" in said


def test_a_data_folder_or_a_key_that_others_may_read(home: Home) -> None:
    home.data.mkdir(mode=0o755)
    home.data.chmod(0o755)
    assert "chmod 700" in refused(home)
    home.data.chmod(0o700)
    home.host_key.chmod(0o644)
    assert "host.key" in refused(home)


def test_a_genesis_that_was_tampered_with(home: Home) -> None:
    genesis = bytearray(home.genesis.read_bytes())
    genesis[len(genesis) // 2] ^= 1
    home.genesis.write_bytes(genesis)
    assert "genesis" in refused(home)
