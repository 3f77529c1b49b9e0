"""A diary of what an engine heard, was told and did, for tests and diagnosis: ledger.replay goes through it again.

It is off unless somebody wraps the EngineKind. Every life of an engine has a file of its own; each step is in it before
its effects are performed, so that a process that is killed leaves nothing out that others have heard. Keys are not
in it: of what a key does, only the signatures are. Transactions and blocks are, as they are on the chain.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple, TypeVar, get_type_hints

import msgspec

from ledger import codec
from ledger.block import Block
from ledger.certificate import Certificate
from ledger.consensus.engine import Chain, Effect, Engine
from ledger.consensus.standing import Signer
from ledger.engines import EngineKind

T = TypeVar("T")
_LENGTH = struct.Struct(">I")

QUESTIONS: Mapping[str, Any] = {
    "sign": bytes,
    **{
        name: get_type_hints(method)["return"]
        for name, method in vars(Chain).items()
        if isinstance(method, FunctionType) and not name.startswith("_") and name != "append"
    },
}
"""All that an engine asks its key and its chain, by the type of the answer. `best` follows from what it appends."""

Answer = tuple[str, bytes]  # what the engine asked of its chain or its key, and the encoded answer
Encoded = tuple[str, bytes]  # an effect: the name of its class, and it


class Began(msgspec.Struct, frozen=True, array_like=True):
    """What an engine was made from."""

    host: str
    public: bytes
    recovered: dict[str, bytes]
    best: Block
    certificate: Certificate | None
    answers: tuple[Answer, ...]


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One call of the contract."""

    verb: str  # start | command | message | tick
    sender: str  # of the message
    content: tuple[bytes, ...]  # the message, or the transactions
    now: float
    wall: int
    answers: tuple[Answer, ...]
    effects: tuple[Encoded, ...]
    fault: str | None  # what was raised


class Life(NamedTuple):
    """From an engine's making to its end, or to a crash."""

    began: Began
    steps: list[Step]


def recorded(kind: EngineKind, folder: Path) -> EngineKind:
    """`kind`, with all that its engines do written to `folder`, as HOST.0, HOST.1, .. for one life after the other."""
    return kind._replace(create=partial(_create, kind.create, folder))


def lives(folder: Path) -> list[Life]:
    """All that is in `folder`. A frame that a crash cut off is left out; with none before it, so is the life."""
    found = []
    for path in sorted(folder.iterdir(), key=lambda path: (path.stem, int(path.suffix[1:]))):
        frames = list(_frames(path.read_bytes()))
        if frames:
            steps = [codec.decode(frame, Step, str(path)) for frame in frames[1:]]
            found.append(Life(codec.decode(frames[0], Began, str(path)), steps))
    return found


def encoded(effects: Sequence[Effect]) -> tuple[Encoded, ...]:
    return tuple((type(effect).__name__, codec.encode(effect)) for effect in effects)


def fault_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _frames(raw: bytes) -> Iterator[bytes]:
    place = 0
    while place + _LENGTH.size <= len(raw):
        (length,) = _LENGTH.unpack_from(raw, place)
        place += _LENGTH.size + length
        if place <= len(raw):
            yield raw[place - length : place]


class _Diary:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: list[Answer] = []

    def note(self, question: str, answer: T) -> T:
        self._answers.append((question, codec.encode(answer)))
        return answer

    def answers(self) -> tuple[Answer, ...]:
        """Since the last time."""
        taken, self._answers = tuple(self._answers), []
        return taken

    def write(self, frame: Began | Step) -> None:
        raw = codec.encode(frame)
        with self._path.open("ab") as file:
            file.write(_LENGTH.pack(len(raw)) + raw)


class _NotedSigner:
    def __init__(self, signer: Signer, diary: _Diary) -> None:
        self.public = signer.public
        self._signer, self._diary = signer, diary

    def sign(self, domain: str, body: bytes) -> bytes:
        return self._diary.note("sign", self._signer.sign(domain, body))


class _NotedChain:
    """A `Chain`, whatever that is asked for."""

    def __init__(self, chain: Chain, diary: _Diary) -> None:
        self._chain, self._diary = chain, diary

    @property
    def best(self) -> Block:
        return self._chain.best

    def append(self, block: Block, certificate: Certificate) -> None:
        self._chain.append(block, certificate)

    def __getattr__(self, question: str) -> Callable[..., Any]:
        if question not in QUESTIONS:
            raise AttributeError(question)
        return lambda *about: self._diary.note(question, getattr(self._chain, question)(*about))


class _NotedEngine:
    def __init__(self, engine: Engine, diary: _Diary) -> None:
        self._engine, self._diary = engine, diary

    @property
    def votes(self) -> bool:
        return self._engine.votes

    @property
    def pledged(self) -> Block | None:
        return self._engine.pledged

    def start(self, now: float, wall: int) -> list[Effect]:
        return self._note("start", "", (), now, wall, partial(self._engine.start, now, wall))

    def command(self, transactions: Sequence[bytes], now: float, wall: int) -> list[Effect]:
        act = partial(self._engine.command, transactions, now, wall)
        return self._note("command", "", tuple(transactions), now, wall, act)

    def message(self, sender: str, message: bytes, now: float, wall: int) -> list[Effect]:
        act = partial(self._engine.message, sender, message, now, wall)
        return self._note("message", sender, (message,), now, wall, act)

    def tick(self, now: float, wall: int) -> list[Effect]:
        return self._note("tick", "", (), now, wall, partial(self._engine.tick, now, wall))

    def _note(
        self,
        verb: str,
        sender: str,
        content: tuple[bytes, ...],
        now: float,
        wall: int,
        act: Callable[[], list[Effect]],
    ) -> list[Effect]:
        effects: list[Effect] = []
        fault = None
        try:
            effects = act()
        except Exception as error:
            fault = fault_of(error)
            raise
        finally:
            answers = self._diary.answers()
            self._diary.write(Step(verb, sender, content, now, wall, answers, encoded(effects), fault))
        return effects


def _create(
    create: Callable[..., Engine],
    folder: Path,
    host: str,
    signer: Signer,
    chain: Chain,
    recovered: Mapping[str, bytes],
    *,
    certificate: Certificate | None,
) -> Any:
    diary = _Diary(folder / f"{host}.{sum(path.stem == host for path in folder.iterdir())}")
    best = chain.best
    engine = create(host, _NotedSigner(signer, diary), _NotedChain(chain, diary), recovered, certificate=certificate)
    diary.write(Began(host, signer.public, dict(recovered), best, certificate, diary.answers()))
    return _NotedEngine(engine, diary)
