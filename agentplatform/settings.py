"""A host's folder: its settings (host.toml), its keys, its data."""

import hashlib
import os
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from agentplatform.addresses import check_address, split
from ledger.errors import Misuse
from services.eds.limits import Limits
from services.eds.triggers import DEFAULTS
from services.rms.adverts import check_facts
from services.tms.claims import Required

Moving = Literal["hold", "forward", "refuse"]
"""What a request does about an agent that moves: wait, go after it, or be refused."""


class Handoff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Deadlines of the handoff, in seconds."""

    offer_deadline: float = 10.0  # an OFFER that is not answered by then is aborted; the agent goes on
    parcel_life: float = 60.0  # a destination refuses a manifest older than this: a stale OFFER is worth nothing
    remind_every: float = 1.0  # between repeats of a NOTICE or an INQUIRE


class Workers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The worker processes that agents run in."""

    warm: int = 2  # workers kept ready; a parcel that finds none waits for a fork
    most: int = 256  # worker processes, those kept ready included; what would need more is refused
    preload: tuple[str, ...] = ("numpy",)  # imported once, ahead of all forks; what is not installed is skipped
    readable: tuple[str, ...] = ()  # folders that agents may read (`Agent.shared_file`), by absolute paths: models, say
    gpu: bool = False  # agents may use the GPUs of this host; see docs/gpu.md for what that opens
    scratch: int = 1 << 30  # bytes that one worker may have on the disk; with more it is ended
    lent: int = 16 << 30  # bytes on the disk that one worker may be lent at a time, for large states


class Decisions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the EDS decides by, and the RMS tells; see docs/decisions.md."""

    policy: str = "falcon"  # one of services.eds.policies
    settings: dict[str, Any] = {}  # of the policy, by name; what is left out is as it defines
    limits: Limits = Limits()
    triggers: tuple[dict[str, Any], ...] = DEFAULTS  # all of them: services.eds.triggers
    advert_every: float = 1.0  # seconds between two adverts of this host's resources, 0.1 to 12
    # Mbit/s that this host's connection has free, as the operator states it; left out: measured at its interfaces.
    bandwidth: float | None = None
    facts: dict[str, float] = {}  # what the operator states of this host, 0 to 1, for policies that weigh it by name

    def __post_init__(self) -> None:
        check_facts(self.facts)


class Holders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the checkpoints of agents in held custody are kept, beside their own host."""

    copies: int = 1  # other hosts that have one, unless the agent's class says otherwise
    elsewhere: bool = False  # of other organisations only; else of other organisations where there are such
    patience: float = 30.0  # seconds that a holder may be without a link before another takes its place
    room: int = 8 << 30  # bytes of copies that this host takes of one other host


class Disk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the host does about a disk that runs full."""

    reserve: int = 32 << 20  # bytes kept free for what is in course by then; it goes on when twice that is free again


class Logs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What agents print, and how it is with them: for `agentplatform logs`."""

    file: int = 1 << 20  # bytes of one agent's log; it has a predecessor of as many
    all: int = 512 << 20  # bytes of all of them: beyond, those go that nobody has written to for longest
    a_second: int = 64 << 10  # bytes that one agent may print in the long run; at once as many as `file`


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The endpoint for requests to agents (docs/requests.md)."""

    listen: str = ""  # "127.0.0.1:8080"; left out: there is none
    public: tuple[str, ...] = ()  # what is answered without the token: "service", or "service/kind"
    names: tuple[str, ...] = ()  # that requests may call this host by, beside localhost and addresses in figures
    address: str = ""  # "https://north.example": told to other hosts for those who ask; left out: as it listens
    moving: Moving = "hold"  # what a request does about an agent that moves, if it does not say
    patience: float = 30.0  # seconds that a request waits for its answer, if it does not say
    longest: float = 300.0  # seconds that a request may say
    body: int = 16 << 20  # bytes of one request
    memory: int = 256 << 20  # bytes of all requests that are here at a time
    at_once: int = 256  # requests that wait for an answer; of one agent, and without the token, half as many
    connections: int = 512  # with more, one that asks nothing just then is closed

    def __post_init__(self) -> None:
        if self.listen:
            split(self.listen)
        if self.address:
            check_address(self.address)
        if not 0 < self.patience <= self.longest or not 0 < self.body <= self.memory:
            raise ValueError("0 < patience <= longest, and 0 < body <= memory")
        if self.at_once < 2 or self.connections < 1:
            raise ValueError("at_once is 2 or more, connections 1 or more")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """host.toml. Times are in seconds, sizes in bytes, unless a field says otherwise."""

    host: str
    organisation: str
    listen: str  # address of the links, "127.0.0.1:7701"
    handoff: Handoff = Handoff()
    workers: Workers = Workers()
    decisions: Decisions = Decisions()
    holders: Holders = Holders()
    disk: Disk = Disk()
    trust: Required = Required()  # claims that a host must make for agents to go there from here
    logs: Logs = Logs()
    http: Http = Http()


class Home:
    """The folder of one host. It is the host: whoever has it can be it, so it is private (mode 0700)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.settings_file = self.folder / "host.toml"
        self.host_key = self.folder / "host.key"
        self.next_host_key = self.folder / "host.key.next"
        self.organisation_key = self.folder / "organisation.key"
        self.data_key = self.folder / "data.key"  # what its agents' states are sealed with (agentplatform.datakey)
        self.genesis = self.folder / "genesis.bin"
        self.data = self.folder / "data"
        self.log = self.folder / "mae.log"
        self.token = self.folder / "control.token"
        self.http_token = self.folder / "http.token"  # who has it may ask all agents (agentplatform.endpoint)

    def settings(self) -> Settings:
        try:
            return msgspec.convert(tomllib.loads(self.settings_file.read_text()), Settings)
        except FileNotFoundError:
            raise Misuse(f"{self.folder} is no host's folder: it has no host.toml. Run: agentplatform found") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise Misuse(f"{self.settings_file}: {error}; mend it and start again") from None

    @property
    def socket(self) -> Path:
        """The control socket. A socket's path has at most 108 bytes, so it lives in a short private folder."""
        runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")  # the folder below is checked
        short = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        return runtime / f"agentplatform-{os.getuid()}" / f"{short}.sock"


def private_folder(folder: Path) -> Path:
    """Makes `folder` with mode 0700, or checks that an existing one is ours alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        raise Misuse(f"the folder {folder} cannot be made: {error.strerror}; choose another place") from None
    if facts.st_uid != os.getuid() or facts.st_mode & 0o077 or folder.is_symlink():
        raise Misuse(f"{folder} must belong to you alone (mode 0700); another user may have put it there")
    return folder
