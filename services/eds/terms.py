"""The terms of equation 1 for one host, as one agent sees it. Pure.

Without a wish of the agent a term is the part that is free. Where the agent prefers an amount, it is the part of that
amount that is free, at most 1: more than it can use attracts nobody.
"""

from collections.abc import Callable, Iterable

from services.eds.snapshot import Access, Host
from services.eds.weights import Terms, link_quality
from services.rms.resources import Minima, Resources


def terms_of(host: Host, resources: Resources, network: float, prefers: Minima, more: Iterable[str] = ()) -> Terms:
    """`network`: see there. `more`: names of further terms: those in MEASURED, else facts that the operator states."""
    return Terms(
        network,
        _part(resources.cpu_free * resources.cores, prefers.cpu_cores, resources.cpu_free),
        _part(resources.memory_free, prefers.memory, resources.memory_free_part),
        host.experience,
        {name: MEASURED[name](resources, prefers) if name in MEASURED else _fact(host, name) for name in more},
    )


def network(quality: float, bandwidth: float, prefers: Minima) -> float:
    """The network term: a link's quality, times the part of the bandwidth (Mbit/s) that the agent prefers."""
    return quality * _part(bandwidth, prefers.bandwidth, 1.0)


def access_quality(access: Access | None) -> float:
    """The quality of the user's link to a host. A host that the access point did not measure serves worst of all."""
    return 0.0 if access is None else link_quality(access.rtt_ms, access.loss)


def _gpu(resources: Resources, prefers: Minima) -> float:
    if not resources.gpus:
        return 0.0
    part = _part(resources.gpu_free * resources.gpus, prefers.gpus, resources.gpu_free)
    return min(part, _part(resources.gpu_memory_free, prefers.gpu_memory, 1.0))


def _disk(resources: Resources, prefers: Minima) -> float:
    return _part(resources.disk_free, prefers.disk, 1.0)


# What is measured beside the four terms. Each weighs nothing unless Weights.more names it.
MEASURED: dict[str, Callable[[Resources, Minima], float]] = {"gpu": _gpu, "disk": _disk}


def _part(free: float, preferred: float, otherwise: float) -> float:
    return min(1.0, free / preferred) if preferred else otherwise


def _fact(host: Host, name: str) -> float:
    """Comes from the host itself, so it is cut to what a term may be. What it does not state is 0."""
    fact = host.facts.get(name, 0.0)
    return min(1.0, fact) if fact > 0.0 else 0.0  # 0 for NaN too
