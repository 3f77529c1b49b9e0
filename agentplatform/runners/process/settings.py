"""How a host keeps its workers."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WorkerSettings:
    """How workers are kept. Times are in seconds."""

    warm: int = 2
    """Workers kept ready. An agent that finds none waits for a fork, about 20 ms."""

    most: int = 256
    """Workers at a time, the ready ones among them: an agent that would need one more is refused."""

    preload: tuple[str, ...] = ()
    """Modules that the fork server imports once, ahead of all forks; what is not installed is skipped."""

    history: Path | None = None
    """The prefix of the files that workers write their histories to (agentplatform.history)."""

    scratch: int = 1 << 30
    """Bytes that one worker may have on the disk, in its folder and in files without a name. One that has more is
    ended."""

    lent: int = 16 << 30
    """Bytes on the disk that one worker may be lent at a time, for states that were not told of yet."""

    private: tuple[Path, ...] = ()
    """Folders that no agent may read: the host's data. The start is refused when they lie where agents may look."""

    readable: tuple[Path, ...] = ()
    """Folders of the host that agents may read (`Agent.shared_file`), beside Python and the system's libraries. The
    start is refused when one is missing, or has the host's data in it."""

    gpu: bool = False
    """Whether agents may use the GPUs of the host: open NVIDIA's devices, and read what its driver needs."""

    ready: float = 60.0
    """For a new worker to come up; the first one waits for the preloaded modules too."""

    create: float = 120.0
    """For a class to be imported and `on_creation` to return; an agent may train a model there."""

    open: float = 20.0
    """For a parcel to be opened. The source waits for it, so it is short."""

    capture: float = 30.0
    """For a capture or a disposal. The worker itself gives up earlier and says why; this is for one that hangs."""

    linger: float = 30.0
    """How long a shared worker stays when its last agent has left: the next one finds its code loaded."""
