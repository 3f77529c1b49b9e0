"""Closes a worker in, after the fork and before any of the agent's code.

A worker has the user id of its daemon, so file modes do not keep it from the host's private key, nor the kernel from
tracing or killing the daemon. Landlock (Linux 5.13 and newer) does: a worker reads Python, the system's libraries and
little else, writes to its own scratch folder alone, and can neither trace nor (ABI 6, Linux 6.12) signal a process
outside. The numbers are those of linux/landlock.h, linux/prctl.h and asm-generic/unistd.h.
"""

import ctypes
import os
import resource
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from agentplatform.parcel.freight import MAX_FREIGHT_BYTES
from agentplatform.runners.process import gpu as nvidia
from ledger.errors import Misuse

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
LAST_CAPABILITY = 63
CAPABILITY_VERSION_3 = 0x20080522

SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446
SYS_CAPSET = {"x86_64": 126, "aarch64": 91, "riscv64": 91}
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
FS_EXECUTE, FS_WRITE_FILE, FS_READ_FILE, FS_READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
FS_MAKE_CHAR, FS_MAKE_BLOCK, FS_TRUNCATE, FS_IOCTL_DEV = 1 << 6, 1 << 11, 1 << 14, 1 << 15
FS_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}  # by ABI; 5 and newer: 16 rights
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1 << 0, 1 << 1
SCOPES_SINCE_ABI = 6

LIMITS = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: MAX_FREIGHT_BYTES,  # of one file: a state that is lent one is the largest (footprint.py)
    resource.RLIMIT_NOFILE: 1024,
    resource.RLIMIT_NPROC: 4096,  # counted for the user, threads included: bounds fork bombs, above what a desktop runs
}

READ = FS_EXECUTE | FS_READ_FILE | FS_READ_DIR
READ_DATA = FS_READ_FILE | FS_READ_DIR  # of the operator's folders: agents run nothing that lies there
FOLDERS = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt")
SYSTEM_FILES = (  # what libraries look up; the rest of /etc is other people's business
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/fonts", "/etc/ssl", "/etc/pki"),
    *("/etc/ca-certificates", "/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/etc/nsswitch.conf"),
    *("/etc/gai.conf", "/etc/services", "/etc/protocols", "/etc/passwd", "/etc/group", "/etc/alternatives"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system", "/sys/fs/cgroup"),
    *("/dev/zero", "/dev/urandom", "/dev/random"),
)

_libc = ctypes.CDLL(None, use_errno=True)


def readable() -> Iterator[Path]:
    """The folders and files that agents may read (those that are there)."""
    root = Path(__file__).parents[3]
    python = (sys.prefix, sys.base_prefix, sys.exec_prefix, *(p for p in sys.path if p.endswith("-packages")))
    ours = (str(root / name) for name in ("agentplatform", "agents", "services", "ledger"))
    for path in map(Path, (*FOLDERS, *python, *ours, *SYSTEM_FILES)):
        if path.exists():
            yield path


def check_private(private: Path) -> None:
    """Raises Misuse when agents could read the folder `private`, because it lies in one of theirs."""
    for folder in readable():
        if private.resolve().is_relative_to(folder.resolve()):
            raise Misuse(f"{private} lies in {folder}, which agents may read; keep the host's data elsewhere")


def check_shared(folder: Path, private: Sequence[Path]) -> None:
    """Raises Misuse when the operator cannot mean that agents may read `folder`: it is no folder, or has in it, or is a
    part of, what is one host's alone (`private`, the folder of another host) or one worker's."""
    shared = f'host.toml shares "{folder}" with agents ([workers] readable)'
    if not folder.is_absolute():
        raise Misuse(f"{shared}: give its absolute path")
    if not folder.is_dir():
        raise Misuse(f"{shared}, and there is no such folder: make it, or take it out of host.toml")
    real = folder.resolve()
    for each in private:
        if each.resolve().is_relative_to(real) or real.is_relative_to(each.resolve()):
            raise Misuse(f"{shared}, and they would read the host's own data, {each}: share another one")
    if Path(tempfile.gettempdir()).resolve().is_relative_to(real):
        raise Misuse(f"{shared}, and they would read what others keep in {tempfile.gettempdir()}: share another one")
    beneath = (each.parent for each in real.glob("*/host.key") if not each.parent.is_symlink())
    for each in (real, *real.parents, *beneath):
        if (each / "host.key").exists():
            raise Misuse(f"{shared}, and they would read the data of another host, {each}: share another one")


def die_with_parent(parent: int, signal: int) -> None:
    """This process gets `signal` when the process `parent` ends; it ends at once when that has happened already."""
    _prctl(PR_SET_PDEATHSIG, signal)
    if os.getppid() != parent:
        os._exit(0)


def adopt_orphans() -> None:
    """Processes whose parent ends become children of this one, if it is their ancestor."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def close_in(scratch: Path, shared: Sequence[Path] = (), gpu: bool = False) -> str:
    """Restricts this process, for ever; it may read the folders `shared` too, and use GPUs if that is said. Returns
    what was achieved, as "landlock 6+rlimits" or "rlimits"."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _drop_capabilities()
    for kind, limit in LIMITS.items():
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))
    abi = _libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    if abi < 1:
        return "rlimits"
    _landlock(abi, scratch, shared, gpu)
    return f"landlock {abi}+rlimits"


def _landlock(abi: int, scratch: Path, shared: Sequence[Path], gpu: bool) -> None:
    handled = FS_RIGHTS.get(abi, (1 << 16) - 1)
    scopes = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL if abi >= SCOPES_SINCE_ABI else 0
    attributes = struct.pack("=QQQ", handled, 0, scopes)  # no network rights: agents may speak to the world
    known = len(attributes) if abi >= SCOPES_SINCE_ABI else 16 if abi >= 4 else 8
    ruleset = _checked(_libc.syscall(SYS_LANDLOCK_CREATE_RULESET, attributes, known, 0), "landlock_create_ruleset")
    for path in readable():
        _allow(ruleset, path, READ & handled)
    for path in shared:
        if path.is_dir():  # else it was taken away since the start
            _allow(ruleset, path, READ_DATA & handled)
    if gpu:
        for path in nvidia.files():
            _allow(ruleset, path, READ_DATA & handled)
        for path in nvidia.nodes():
            _allow(ruleset, path, (FS_READ_FILE | FS_WRITE_FILE | FS_IOCTL_DEV) & handled)
        for path in nvidia.WRITTEN:
            _allow(ruleset, path, (FS_READ_FILE | FS_WRITE_FILE | FS_TRUNCATE) & handled)
    _allow(ruleset, Path("/dev/null"), (FS_READ_FILE | FS_WRITE_FILE | FS_TRUNCATE) & handled)
    _allow(ruleset, scratch, handled & ~(FS_MAKE_CHAR | FS_MAKE_BLOCK | FS_IOCTL_DEV))
    _checked(_libc.syscall(SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not path.is_dir():
        rights &= FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV
    rule = struct.pack("=Qi", rights, beneath)
    result = _libc.syscall(SYS_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0)
    if not path.is_relative_to("/proc"):  # whose inodes, and their rules, are forgotten when nobody has them open
        os.close(beneath)
    _checked(result, f"landlock_add_rule for {path}")


def _drop_capabilities() -> None:
    """A daemon that runs as root keeps its powers; its workers do not."""
    for capability in range(LAST_CAPABILITY + 1):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for those that are not there, or not root's
    number = SYS_CAPSET.get(os.uname().machine)
    if number is not None:
        header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
        _checked(_libc.syscall(number, header, bytes(24)), "capset")


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def _checked(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result
