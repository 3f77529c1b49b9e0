"""What a host has free, and what an agent needs at least. Pure.

Vectors are compared entry by entry, never added up: a missing gigabyte is not made good by a free processor.
"""

import math

import msgspec

# No host has more; a number above is a mistake or a lie.
MAX_CORES = 1 << 20
MAX_BYTES = 1 << 60
MAX_BANDWIDTH = 1e6  # Mbit/s
MAX_GPUS = 1 << 12
MAX_HAS = 64  # modules and devices that one agent needs
MAX_NAME = 64  # characters of one


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is free on a host now. It also comes from other hosts, so it is checked at birth."""

    cpu_free: float  # part of all processors that is idle, 0 to 1
    cores: int  # logical processors
    memory_free: int  # bytes that can be had without swapping
    memory_total: int  # bytes
    disk_free: int  # bytes, where the host keeps its data
    bandwidth: float  # Mbit/s that its connection has free, above zero
    gpus: int = 0
    # As NVML tells; 0 where it does not, or where there is no GPU.
    gpu_free: float = 0.0  # part of the time of all GPUs that is idle, 0 to 1
    gpu_memory_free: int = 0  # bytes, on the GPU that has the most free: an agent's data lies on one
    gpu_memory_total: int = 0  # bytes, on that GPU

    def __post_init__(self) -> None:
        if not 0.0 <= self.cpu_free <= 1.0:
            raise ValueError(f"cpu_free is {self.cpu_free}; it must be between 0 and 1")
        if self.cores < 1 or self.memory_total < 1 or not 0 <= self.memory_free <= self.memory_total:
            raise ValueError("a host has at least one core, and no more memory free than there is")
        if self.disk_free < 0 or self.gpus < 0 or not 0.0 < self.bandwidth < math.inf:
            raise ValueError("disk and GPUs are not negative, and the bandwidth is above zero")
        if not (0.0 <= self.gpu_free <= 1.0 and 0 <= self.gpu_memory_free <= self.gpu_memory_total):
            raise ValueError("what is free of the GPUs is between nothing and all that there is")
        most = max(self.memory_total, self.disk_free, self.gpu_memory_total)
        if self.cores > MAX_CORES or most > MAX_BYTES or self.bandwidth > MAX_BANDWIDTH or self.gpus > MAX_GPUS:
            raise ValueError("no host has so many processors, bytes or GPUs, or so much bandwidth")

    @property
    def memory_free_part(self) -> float:
        """Free memory as a part of all, 0 to 1."""
        return self.memory_free / self.memory_total

    @property
    def free(self) -> "Minima":
        """The most that can be asked of it, of each by itself."""
        return Minima(
            cpu_cores=self.cpu_free * self.cores,
            memory=self.memory_free,
            disk=self.disk_free,
            bandwidth=self.bandwidth,
            gpus=self.gpus,
            gpu_memory=self.gpu_memory_free,
        )

    def shortages(self, minima: "Minima") -> tuple[str, ...]:
        """What is short for `minima`, in words; empty when they fit."""
        short = []
        if minima.cpu_cores > (free := self.cpu_free * self.cores):
            short.append(f"processor: {minima.cpu_cores:g} cores needed, {free:.2f} free")
        if minima.memory > self.memory_free:
            short.append(f"memory: {minima.memory} bytes needed, {self.memory_free} free")
        if minima.disk > self.disk_free:
            short.append(f"disk: {minima.disk} bytes needed, {self.disk_free} free")
        if minima.bandwidth > self.bandwidth:
            short.append(f"bandwidth: {minima.bandwidth:g} Mbit/s needed, {self.bandwidth:g} free")
        if minima.gpus > self.gpus:
            short.append(f"GPUs: {minima.gpus} needed, {self.gpus} there")
        if minima.gpu_memory > self.gpu_memory_free:
            short.append(f"GPU memory: {minima.gpu_memory} bytes needed, {self.gpu_memory_free} free")
        return tuple(short)


class Minima(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an agent needs at least where it runs."""

    cpu_cores: float = 0.0
    memory: int = 0  # bytes
    disk: int = 0  # bytes
    bandwidth: float = 0.0  # Mbit/s
    gpus: int = 0
    gpu_memory: int = 0  # bytes, on one GPU

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"the least {name} is {getattr(self, name)}; it must be 0 or more")

    def __add__(self, other: "Minima") -> "Minima":
        return Minima(
            cpu_cores=self.cpu_cores + other.cpu_cores,
            memory=self.memory + other.memory,
            disk=self.disk + other.disk,
            bandwidth=self.bandwidth + other.bandwidth,
            gpus=self.gpus + other.gpus,
            gpu_memory=self.gpu_memory + other.gpu_memory,
        )

    def words(self) -> str:
        """What is above nothing, for people to read."""
        amounts = {name: getattr(self, name) for name in self.__struct_fields__}
        return ", ".join(f"{name.replace('_', ' ')} {amount:.12g}" for name, amount in amounts.items() if amount)


class Needs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an agent says of the places where it can run: without `least` and `has` it cannot, `prefers` is better."""

    least: Minima = Minima()
    prefers: Minima = Minima()
    has: tuple[str, ...] = ()  # Python modules and devices, by the names that adverts have them

    def __post_init__(self) -> None:
        if len(self.has) > MAX_HAS or not all(
            isinstance(name, str) and 1 <= len(name) <= MAX_NAME for name in self.has
        ):
            raise ValueError(f"an agent needs at most {MAX_HAS} things, with names of 1 to {MAX_NAME} characters")
