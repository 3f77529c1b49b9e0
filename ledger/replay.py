"""Goes through recordings (ledger.recording) again: each engine step by step, and the replicas of one run together.

An engine is pure, so that what went in and what came out tells whether this code does what the recorded one did.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, get_args

from ledger import codec, identity
from ledger.block import Block
from ledger.certificate import VOTE_DOMAIN, Certificate
from ledger.consensus import messages
from ledger.consensus.engine import Decide, Effect, Engine, Send
from ledger.consensus.messages import Blocks, ChangeView, Content, EnterView, Vote
from ledger.errors import Misuse
from ledger.evidence import STATEMENTS, Place
from ledger.recording import QUESTIONS, Answer, Encoded, Life, Step, encoded, fault_of

EFFECTS: Mapping[str, Any] = {kind.__name__: kind for kind in get_args(Effect)}

# One engine


def replay(life: Life, create: Callable[..., Engine]) -> str | None:
    """Where an engine that `create` makes first does something else than the recorded one; None if nowhere.

    `create` is that of an EngineKind with the settings of the recorded one.
    """
    began = life.began
    world = _World(began.public, began.best, began.answers)
    try:
        engine = create(began.host, world, world, began.recovered, certificate=began.certificate)
    except Exception as error:
        return f"{began.host} cannot be made again: {fault_of(error)}"
    for number, step in enumerate(life.steps):
        world.answers = iter(step.answers)
        effects, fault = _again(engine, step)
        difference = _difference(step, encoded(effects), fault)
        if difference is None and next(world.answers, None) is not None:
            difference = "the recorded engine asked for more"
        if difference is not None:
            return f"{began.host}, step {number} ({_told(step)}): {difference}"
    return None


class _World:
    """The chain and the key of a recorded engine: they answer what they answered then."""

    def __init__(self, public: bytes, best: Block, answers: Iterable[Answer]) -> None:
        self.public = public
        self.best = best
        self.answers = iter(answers)

    def __getattr__(self, question: str) -> Callable[..., Any]:
        if question not in QUESTIONS:
            raise AttributeError(question)
        return lambda *about: self._answer(question)

    def _answer(self, question: str) -> Any:
        asked, answer = next(self.answers, ("nothing more", b""))
        if asked != question:
            raise Misuse(f"asks for {question} where the recorded engine asked for {asked}")
        return codec.decode(answer, QUESTIONS[question])

    def append(self, block: Block, certificate: Certificate) -> None:
        self.best = block


def _again(engine: Engine, step: Step) -> tuple[list[Effect], str | None]:
    try:
        match step.verb:
            case "start":
                return engine.start(step.now, step.wall), None
            case "command":
                return engine.command(step.content, step.now, step.wall), None
            case "message":
                return engine.message(step.sender, step.content[0], step.now, step.wall), None
            case _:
                return engine.tick(step.now, step.wall), None
    except Exception as error:
        return [], fault_of(error)


def _difference(step: Step, effects: tuple[Encoded, ...], fault: str | None) -> str | None:
    if fault != step.fault:
        return f"it raised {step.fault}, and now {fault}"
    for number, (then, now) in enumerate(zip_longest(step.effects, effects)):
        if then != now:
            return f"effect {number} was {_show(then)}, and is now {_show(now)}"
    return None


def _told(step: Step) -> str:
    if step.verb == "message":
        return f"{type(messages.decode(step.content[0], step.sender)).__name__} of {step.sender} at {step.now:.3f} s"
    return f"{step.verb} at {step.now:.3f} s"


def _show(effect: Encoded | None) -> str:
    if effect is None:
        return "nothing"
    decoded = _decoded(effect)
    if isinstance(decoded, Send):
        return f"{messages.decode(decoded.message, 'the engine')} to {decoded.to or 'all'}"[:300]
    return str(decoded)[:300]


def _decoded(effect: Encoded) -> Effect:
    name, raw = effect
    found: Effect = codec.decode(raw, EFFECTS[name])
    return found


# The replicas of one run


def contradictions(lives: Iterable[Life]) -> list[str]:
    """What cannot be if the recorded hosts are honest: each a sentence.

    No two decide different blocks at a height; none signs two statements where one is allowed, its lives taken
    together; and whatever one heard from another, that one had said. What counts as said is what somebody heard: an
    engine's last words before a crash may never have left the host.
    """
    lives = list(lives)
    hosts = {life.began.public: life.began.host for life in lives}
    found = _Found()
    for life in lives:
        for step in life.steps:
            for effect in map(_decoded, step.effects):
                if isinstance(effect, Decide):
                    found.decided(life.began.host, effect.block)
                elif isinstance(effect, Send):
                    found.said.add((life.began.host, effect.to, effect.message))
    for life in lives:
        for step in life.steps:
            if step.verb == "message" and step.sender in hosts.values():
                content = messages.decode(step.content[0], step.sender)
                found.heard(life.began.host, step.sender, step.content[0], content)
                for key, domain, body in _statements(content, step.sender, hosts):
                    found.signed(hosts.get(key, ""), domain, body)
    return found.faults


class _Found:
    def __init__(self) -> None:
        self.faults: list[str] = []
        self.said: set[tuple[str, str | None, bytes]] = set()  # by whom, to whom, what
        self._blocks: dict[int, Block] = {}
        self._signed: dict[tuple[str, Place], bytes] = {}

    def decided(self, host: str, block: Block) -> None:
        height = block.header.height
        if self._blocks.setdefault(height, block).digest() != block.digest():
            self.faults.append(f"{host} decided another block {height} than somebody else")

    def heard(self, host: str, sender: str, message: bytes, content: Content) -> None:
        if isinstance(content, Blocks):  # from the sender's disk: its engine did not say them
            for block, _ in content.blocks:
                self.decided(sender, block)
        elif not {(sender, None, message), (sender, host, message)} & self.said:
            self.faults.append(f"{host} heard from {sender} what it had not said: {content}"[:300])

    def signed(self, host: str, domain: str, body: bytes) -> None:
        place = STATEMENTS[domain](body)
        if host and self._signed.setdefault((host, place), body) != body:
            self.faults.append(f"{host} signed twice: {place.kind} at height {place.height}, view {place.view}")


def _statements(content: Content, sender: str, hosts: Mapping[bytes, str]) -> Iterator[tuple[bytes, str, bytes]]:
    """Whose key signed what, for what."""
    match content:
        case Vote(ballot):
            keys = {host: key for key, host in hosts.items()}
            yield keys[sender], VOTE_DOMAIN, ballot.encode()
        case ChangeView(signed) | EnterView(signed):
            for domain in STATEMENTS:  # the engines have different ones
                if identity.verify(signed.signer, domain, signed.body, signed.signature):
                    yield signed.signer, domain, signed.body
