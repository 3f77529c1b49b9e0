"""The directory of services: what it takes from other hosts, and whom it finds."""

from dataclasses import dataclass

import pytest

from agentplatform import directory
from agentplatform.directory import Directory
from agentplatform.kinds import Found, Kind, Query, Service, User, query
from agentplatform.parcel.manifest import certify_clone, give_birth, open_birth
from agentplatform.runners.inline import Inline
from ledger import codec
from ledger.errors import Misuse, PeerFault
from ledger.identity import Identity, Signed
from tests.helpers.kinds_of_agents import Echo, Seeker

ADA, MALLORY = Identity(b"a" * 32), Identity(b"m" * 32)
WORDS = {"south": 4.0, "east": 9.0}  # round trips


def certificate(number: int = 0, version: str = "1.4", owner: Identity = ADA, kind: Kind | None = None) -> bytes:
    kind = kind or Service("echo", version)
    return give_birth("echo", owner, number.to_bytes(16, "big"), bytes(32), "module:Echo", True, kind=kind)


@dataclass
class Book:
    """A host's directory, beside its whereabouts."""

    def __post_init__(self) -> None:
        self.directory, self.where = Directory("north"), dict[str, str]()

    def tells(self, host: str, raw: bytes, where: str | None = None) -> str:
        agent = open_birth(raw, "test").agent
        assert self.directory.learn(host, raw) == agent
        self.where[agent] = where or host
        return agent

    def find(self, wanted: Query = Query("echo")) -> list[Found]:  # noqa: B008 - frozen
        return self.directory.find(wanted, self.where.get, WORDS.get)


@pytest.fixture
def book() -> Book:
    return Book()


def test_the_nearest_comes_first_and_moves_are_followed(book: Book) -> None:
    hosts = ["west", "east", "north", "alps", "south"]
    agents = {host: book.tells(host, certificate(number)) for number, host in enumerate(hosts)}
    order = ["north", "south", "east", "alps", "west"]  # here, then measured, then by name
    assert [found.agent for found in book.find()] == [agents[host] for host in order]
    assert book.find()[0] == Found(agents["north"], "echo", "1.4", "north", ADA.public.hex())
    book.where[agents["west"]] = "north"
    book.where[agents["north"]] = "east"
    assert {found.host for found in book.find()[:1]} == {"north"} and book.find()[0].agent == agents["west"]
    del book.where[agents["west"]]  # of an agent that ended, or whose host is not trusted any more, there is no place
    book.where[agents["south"]] = ""
    assert len(book.find()) == 3


def test_versions_and_owners_that_were_asked_for(book: Book) -> None:
    old, new = book.tells("east", certificate(1, "1.4")), book.tells("east", certificate(2, "2.0"))
    theirs = book.tells("south", certificate(3, "1.5", MALLORY))
    assert {found.agent for found in book.find()} == {old, new, theirs}
    assert [found.agent for found in book.find(Query("echo", "1.2"))] == [theirs, old]
    assert [found.agent for found in book.find(Query("echo", "1.2", ADA.public.hex()))] == [old]
    assert book.find(Query("echo", "1.6")) == book.find(Query("other")) == []
    assert len(book.find(Query())) == 3


def test_no_host_can_offer_a_service_as_another_owner(book: Book) -> None:
    """Mallory's host has seen Ada's certificate, as every host has."""
    book.tells("east", certificate())
    signed, theirs = codec.decode(certificate(), Signed), codec.decode(certificate(7, owner=MALLORY), Signed)
    mine = codec.decode(certificate(8), Signed).body
    forged = [
        codec.encode(Signed(theirs.signer, signed.body, theirs.signature)),
        codec.encode(Signed(ADA.public, mine, theirs.signature)),
        codec.encode(MALLORY.signed("agentplatform/birth", mine)),  # her key under Ada's name
        certify_clone(certificate(), open_birth(certificate(), "").agent, b"s" * 16, b"chain", "south", MALLORY),
    ]
    for raw in forged:
        with pytest.raises(PeerFault, match="south"):
            book.directory.learn("south", raw)
    book.tells("north", certificate(9, owner=MALLORY))  # nearest of all, but hers
    assert [found.owner for found in book.find()] == [MALLORY.public.hex(), ADA.public.hex()]
    assert [found.host for found in book.find(Query("echo", None, ADA.public.hex()))] == ["east"]


@pytest.mark.parametrize("raw", [b"", b"\xc1", certificate(kind=User("ada")), certificate() + bytes(4096)])
def test_what_is_no_certificate_of_a_service_is_refused(book: Book, raw: bytes) -> None:
    with pytest.raises(PeerFault, match="south"):
        book.directory.learn("south", raw)
    assert book.find(Query()) == []


def test_one_host_that_floods_does_not_crowd_out_others(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MAX_FROM_ONE_HOST", 3)
    agents = [book.tells("south", certificate(number, owner=MALLORY)) for number in range(3)]
    assert book.directory.learn("south", certificate(3, owner=MALLORY)) is None
    assert book.directory.learn("south", certificate(4)) is None
    honest = book.tells("east", certificate(4))
    assert {found.agent for found in book.find()} == {honest, *agents}
    book.directory.forget(agents[0])
    book.directory.forget(agents[0])
    book.tells("south", certificate(5, owner=MALLORY))
    assert book.directory.learn("south", certificate(6, owner=MALLORY)) is None
    monkeypatch.setattr(directory, "MAX_FOUND", 2)
    assert len(book.find()) == 2
    assert [found.agent for found in book.find(Query("echo", None, ADA.public.hex()))] == [honest]


def test_what_comes_again_costs_no_signature(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    book.tells("east", certificate())
    opened: list[bytes] = []
    monkeypatch.setattr(directory, "open_birth", lambda raw, _: opened.append(raw))
    assert book.directory.learn("south", certificate()) is None and not opened


def test_questions_that_nobody_can_mean() -> None:
    assert query("echo", "1.2", None) == Query("echo", "1.2")
    for wanted in (
        ("Echo", None, None),
        ("echo", "1", None),
        ("echo", None, "ada"),
        ("echo", 1.2, None),
        (3, None, None),
    ):
        with pytest.raises(Misuse, match="nothing to find"):
            query(*wanted)  # type: ignore[arg-type]


def test_an_agent_finds_a_service_and_asks_it() -> None:
    with Inline(host="north") as inline:
        seeker, echo = inline.create(Seeker), inline.create(Echo)
        assert seeker.call("ask", "hello") == ["north", "hello"]
        echo.hop("east")
        found = seeker.call("find", ["echo", "1.4", None])
        assert [row[:2] for row in found] == [[echo.id, "east"]]
        assert seeker.call("find", ["echo", "1.4", found[0][2]]) == found
        assert seeker.call("find", ["echo", "1.4", "f" * 64]) == seeker.call("find", ["echo", "2.0", None]) == []
        for nonsense in (["Echo", None, None], ["echo", "1", None], ["echo", None, "ada"], ["echo", 1, None]):
            with pytest.raises(PeerFault, match="nothing to find"):
                seeker.call("find", nonsense)
