"""What a registered host may not do with parcels, mail and commands: each is refused with a reason that names it."""

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from agentplatform.commands import LIFE_MS, Command, Request, Response, sign
from agentplatform.custody.messages import (
    Accept,
    Acknowledge,
    Cargo,
    HandoffMessage,
    Inquire,
    Notice,
    Offer,
    Refuse,
)
from agentplatform.mail import Letter, Luggage, Memory, Reply
from agentplatform.parcel.freight import PIECE_BYTES, Freight
from agentplatform.parcel.manifest import (
    Manifest,
    Parcel,
    code_digest,
    give_birth,
    luggage_digest,
    open_birth,
    sign_manifest,
    state_digest,
)
from ledger import codec
from ledger.errors import PeerFault
from ledger.identity import Identity, Signed
from ledger.links.base import Channel
from tests.helpers.edge_world import CODE, OWNER, World
from tests.helpers.linked_hosts import CHAIN, identity

pytest_plugins = "tests.helpers.edge_fixtures"
pytestmark = pytest.mark.usefixtures("no_errors")
_MESSAGE: Any = HandoffMessage
STATE = codec.encode({"handled": [], "failed": [], "arrivals": []})
MALLORY = Identity(b"mallory".ljust(32, b"."))
FAR = 1 << 45  # milliseconds since 1970: not soon
NESTED = b"\x91" * 200_000 + b"\xc0"  # an array in an array in an array ..
COUNTED = b"\xdd\xff\xff\xff\xff"  # an array of 4,294,967,295 elements, without any


class Attacker:
    """Host "a", free to send what it likes to "b"; and what "b" looks like."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.birth, self.certificate = world.birth("x")
        self.before = self.seen()

    def seen(self) -> tuple[object, ...]:
        b = self.world["b"]
        return b.carrier.machine.key(), tuple(b.runner.asked), tuple(b.mailroom.boxes), len(b.journal.seen)

    def manifest(self, **changed: Any) -> Manifest:
        manifest = Manifest(
            chain=CHAIN,
            transfer=b"t" * 16,
            source="a",
            destination="b",
            agent=self.birth.agent,
            owner=self.birth.owner,
            epoch=1,
            birth=self.certificate,
            code=code_digest(CODE),
            state=state_digest(STATE),
            luggage=luggage_digest(codec.encode(Luggage())),
            python="3.11",
            expires=FAR,
        )
        return replace(manifest, **changed)

    def offer(self, manifest: Manifest | None = None, key: Identity | None = None, **changed: Any) -> Offer:
        """An honest offer, but for the manifest, the key that signs it, and changed parts of the parcel."""
        manifest = manifest or self.manifest()
        raw = sign_manifest(manifest, key or identity("a"))
        parcel = replace(Parcel(raw, STATE, codec.encode(Luggage()), CODE), **changed)
        return Offer(manifest.transfer, (Cargo(manifest.agent, manifest.epoch),), (parcel,))

    async def send(self, message: HandoffMessage, sender: str = "a") -> None:
        self.world["b"].carrier.receive(sender, codec.encode(message))
        await self.world.crank()

    async def is_refused(self, message: HandoffMessage | bytes, why: str, sender: str = "a") -> None:
        """With a PeerFault that names the sender; nothing was opened, and nothing is otherwise than before."""
        raw = message if isinstance(message, bytes) else codec.encode(message)
        with pytest.raises(PeerFault, match=rf"^{sender}: .*{why}"):
            self.world["b"].carrier.receive(sender, raw)
        await self.world.crank()
        assert self.seen() == self.before

    async def answered(self, message: HandoffMessage) -> list[HandoffMessage]:
        """What "b" sends back to "a"."""
        heard: list[HandoffMessage] = []

        def listen(source: str, target: str, channel: Channel, raw: bytes) -> bool:
            if (source, target, channel) == ("b", "a", Channel.HANDOFF):
                heard.append(codec.decode(raw, _MESSAGE))
            return channel is Channel.HANDOFF

        self.world.hub.drops = listen
        with contextlib.suppress(PeerFault):
            await self.send(message)
        return heard


def with_manifest(offer: Offer, raw: bytes) -> Offer:
    return replace(offer, parcels=(replace(offer.parcels[0], manifest=raw),))


@pytest.fixture
async def attacker(world: World) -> AsyncIterator[Attacker]:
    yield Attacker(world)


async def test_the_offer_that_is_tampered_with_below_would_be_taken(attacker: Attacker) -> None:
    assert await attacker.answered(attacker.offer()) == [Accept(b"t" * 16)]
    assert attacker.world["b"].runner.asked == [("open", attacker.birth.agent)]


# The bytes


async def test_a_flipped_bit_anywhere_in_an_offer_is_refused(attacker: Attacker) -> None:
    """Each byte once: code, state, luggage, every field of the manifest, its signature, and what stands around."""
    raw = codec.encode(attacker.offer())
    chance = random.Random(3)  # noqa: S311
    for at in range(len(raw)):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << chance.randrange(8)
        with pytest.raises(PeerFault, match=r"^a: "):
            attacker.world["b"].carrier.receive("a", bytes(flipped))
    await attacker.world.crank()
    assert attacker.seen() == attacker.before


async def test_a_table_of_pieces_is_signed_as_a_state_is(attacker: Attacker) -> None:
    table = Freight(2 * PIECE_BYTES, bytes(64))
    signed = attacker.manifest(state=state_digest(table))
    other = Freight(2 * PIECE_BYTES, bytes(63) + b"x")
    await attacker.is_refused(attacker.offer(signed, state=other), "the state is not the one that was signed")
    await attacker.is_refused(attacker.offer(signed), "the state is not the one that was signed")
    wrong = codec.encode(attacker.offer(signed, state=table)).replace(codec.encode(table), codec.encode((1 << 60, b"")))
    await attacker.is_refused(wrong, "sent bytes that are no")
    assert not attacker.world.spools["b"].files


@pytest.mark.parametrize("part", ["state", "luggage", "code"])
async def test_the_refusal_names_the_part_that_was_changed(attacker: Attacker, part: str) -> None:
    changed = attacker.offer(**{part: b"something else"})
    why = f"{attacker.birth.agent} that was changed on the way: the {part} is not the one that was signed"
    await attacker.is_refused(changed, why)
    (answer,) = await attacker.answered(changed)
    assert isinstance(answer, Refuse) and why in answer.reason


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x00" * 1000,
        NESTED,
        COUNTED,
        codec.encode(["Offer", b"t" * 16]),
        codec.encode(["Offer", "t" * 16, [], []]),
        codec.encode(["Offer", b"t" * 16, [], [], []]),
        codec.encode(["Order", b"t" * 16]),
        codec.encode(["Offer", b"t" * 16, [["x", 1 << 63]], []])[:-1] + COUNTED,
    ],
)
async def test_garbage_is_refused(attacker: Attacker, raw: bytes) -> None:
    await attacker.is_refused(raw, "sent bytes that are no")


async def test_random_bytes_are_refused(attacker: Attacker) -> None:
    chance = random.Random(5)  # noqa: S311
    for _ in range(2000):
        with pytest.raises(PeerFault, match=r"^a: sent bytes that are no"):
            attacker.world["b"].carrier.receive("a", chance.randbytes(chance.randrange(200)))
    assert attacker.seen() == attacker.before


@pytest.mark.parametrize("luggage", [b"", NESTED, COUNTED, codec.encode([{}, {}, [], None, 1]), b"\x94\x80\x80\x91"])
async def test_signed_luggage_that_is_none_is_refused(attacker: Attacker, luggage: bytes) -> None:
    manifest = attacker.manifest(luggage=luggage_digest(luggage))
    await attacker.is_refused(attacker.offer(manifest, luggage=luggage), "sent bytes that are no Luggage")


@pytest.mark.parametrize(("sender", "receiver"), [("another", "client-b"), (None, "client-c")])
async def test_replies_in_luggage_that_the_agent_did_not_give_to_that_sender(
    attacker: Attacker, sender: str | None, receiver: str
) -> None:
    """A repeat of the sender's letter would be answered by them, in the name of whoever they name."""

    def offer(reply: Reply) -> Offer:
        luggage = codec.encode(Luggage({"client-b": Memory(0, 1, [reply])}))
        return attacker.offer(attacker.manifest(luggage=luggage_digest(luggage)), luggage=luggage)

    agent = attacker.birth.agent
    forged = Reply(sender or agent, receiver, 1, "b", True, b"")
    await attacker.is_refused(offer(forged), "with replies that others gave, or to others")
    assert await attacker.answered(offer(Reply(agent, "client-b", 1, "b", True, b""))) == [Accept(b"t" * 16)]


@pytest.mark.parametrize("body", [NESTED, COUNTED, codec.encode("no manifest")])
async def test_a_signed_manifest_that_is_none_is_refused(attacker: Attacker, body: bytes) -> None:
    raw = codec.encode(identity("a").signed("agentplatform/manifest", body))
    await attacker.is_refused(with_manifest(attacker.offer(), raw), "no Manifest")


# Who, for whom, when


async def test_a_parcel_for_another_host(attacker: Attacker) -> None:
    offer = attacker.offer(attacker.manifest(destination="c"))
    await attacker.is_refused(offer, "is meant for c, not for b")


async def test_a_parcel_of_another_consortium(attacker: Attacker) -> None:
    await attacker.is_refused(attacker.offer(attacker.manifest(chain=b"?" * 32)), "belongs to another consortium")


async def test_an_expired_parcel_is_refused_and_nobody_blamed(attacker: Attacker) -> None:
    """A host that was stopped reads late what an honest one sent in time."""
    late = attacker.offer(attacker.manifest(expires=1))
    attacker.world["b"].carrier.receive("a", codec.encode(late))  # raises no PeerFault
    (answer,) = await attacker.answered(late)
    assert isinstance(answer, Refuse) and "expired" in answer.reason and "offered again" in answer.reason
    assert attacker.seen() == attacker.before
    forged = attacker.offer(attacker.manifest(expires=1, destination="c"))
    await attacker.is_refused(forged, "is meant for c, not for b")


@pytest.mark.parametrize(
    "changed", [{"epoch": 0}, {"epoch": -1}, {"epoch": 2**63}, {"transfer": b""}, {"transfer": b"t" * 17}]
)
async def test_no_proper_epoch_or_transfer(attacker: Attacker, changed: dict[str, Any]) -> None:
    await attacker.is_refused(attacker.offer(attacker.manifest(**changed)), "no proper transfer id or epoch")


async def test_a_sender_that_is_not_registered(attacker: Attacker) -> None:
    offer = attacker.offer(attacker.manifest(source="zed"), key=identity("zed"))
    await attacker.is_refused(offer, "is not registered with the ledger, or is revoked", sender="zed")


async def test_a_sender_that_is_revoked(attacker: Attacker) -> None:
    del attacker.world.registry["a"]
    await attacker.is_refused(attacker.offer(), "is not registered with the ledger, or is revoked")


async def test_a_sender_that_is_revoked_between_verification_and_examination(attacker: Attacker) -> None:
    attacker.world["b"].carrier.receive("a", codec.encode(attacker.offer()))
    del attacker.world.registry["a"]
    await attacker.world.crank()
    assert attacker.seen()[1:] == attacker.before[1:] and not attacker.world["b"].carrier.machine.arriving


async def test_another_hosts_signature(attacker: Attacker) -> None:
    await attacker.is_refused(attacker.offer(key=identity("b")), "that another key than its own signed")
    forged = codec.decode(sign_manifest(attacker.manifest(), MALLORY), Signed)
    raw = codec.encode(replace(forged, signer=identity("a").public))
    await attacker.is_refused(with_manifest(attacker.offer(), raw), "with a bad signature")


async def test_a_parcel_that_another_host_made_is_not_passed_on(attacker: Attacker) -> None:
    """Host b had it from c, for b: a may not bring it."""
    attacker.world.registry["c"] = replace(attacker.world.registry["a"], host="c", key=identity("c").public)
    fromc = attacker.manifest(source="c")
    await attacker.is_refused(attacker.offer(fromc, key=identity("c")), "another key than its own signed")
    await attacker.is_refused(attacker.offer(fromc), "that c signed")


# Which agent


async def test_a_birth_certificate_of_another_agent(attacker: Attacker) -> None:
    _, other = attacker.world.birth("y")
    await attacker.is_refused(
        attacker.offer(attacker.manifest(birth=other)), "is not the agent of its birth certificate"
    )


async def test_a_birth_certificate_of_another_owner(attacker: Attacker) -> None:
    birth, other = attacker.world.birth("x", owner=MALLORY)
    for changed in ({"birth": other}, {"birth": other, "agent": birth.agent}, {"owner": birth.owner}):
        await attacker.is_refused(
            attacker.offer(attacker.manifest(**changed)), "is not the agent of its birth certificate"
        )


async def test_a_birth_certificate_that_the_owner_did_not_sign(attacker: Attacker) -> None:
    signed = codec.decode(attacker.certificate, Signed)
    by_mallory = codec.encode(MALLORY.signed("agentplatform/birth", signed.body))
    await attacker.is_refused(attacker.offer(attacker.manifest(birth=by_mallory)), "that its owner did not sign")
    claimed = codec.encode(replace(codec.decode(by_mallory, Signed), signer=signed.signer))
    await attacker.is_refused(attacker.offer(attacker.manifest(birth=claimed)), "with a bad signature")


async def test_a_birth_certificate_whose_id_is_not_bound_to_its_owner(attacker: Attacker) -> None:
    """Mallory signs a certificate of her own, for the id of another's agent."""
    birth = msgspec.to_builtins(attacker.birth, builtin_types=(bytes,))
    birth[2] = MALLORY.public
    raw = codec.encode(MALLORY.signed("agentplatform/birth", codec.encode(birth)))
    offer = attacker.offer(attacker.manifest(birth=raw, owner=MALLORY.public))
    await attacker.is_refused(offer, "does not belong to its name and owner")


async def test_other_code_than_the_owner_signed(attacker: Attacker) -> None:
    offer = attacker.offer(attacker.manifest(code=code_digest(b"evil")), code=b"evil")
    await attacker.is_refused(offer, "is not the agent of its birth certificate")


async def test_code_that_is_left_out_and_is_not_here(attacker: Attacker) -> None:
    (answer,) = await attacker.answered(attacker.offer(code=None))
    assert isinstance(answer, Refuse) and "does not have the code" in answer.reason
    assert attacker.world["b"].runner.asked == []


# Offers that contradict themselves


async def test_the_cargo_is_that_of_the_manifests(attacker: Attacker) -> None:
    offer, agent = attacker.offer(), attacker.birth.agent
    parcel = offer.parcels[0]
    many, few = "whose parcels are not those of its cargo", "with the manifest of another transfer, agent or epoch"
    await attacker.is_refused(replace(offer, parcels=()), many)
    await attacker.is_refused(replace(offer, parcels=(parcel, parcel)), many)
    await attacker.is_refused(replace(offer, cargo=()), many)
    await attacker.is_refused(replace(offer, cargo=(), parcels=()), "with no agent, or with one agent twice")
    await attacker.is_refused(replace(offer, cargo=offer.cargo * 2, parcels=(parcel, parcel)), "one agent twice")
    await attacker.is_refused(replace(offer, cargo=(Cargo(agent, 2),)), few)
    await attacker.is_refused(replace(offer, cargo=(Cargo("y-0000000000000000", 1),)), few)
    await attacker.is_refused(replace(offer, transfer=b"u" * 16), few)


async def test_one_bad_parcel_of_a_group_refuses_all(attacker: Attacker) -> None:
    good = attacker.offer()
    attacker.birth, attacker.certificate = attacker.world.birth("y")
    bad = attacker.offer(state=b"changed")
    both = Offer(good.transfer, good.cargo + bad.cargo, good.parcels + bad.parcels)
    await attacker.is_refused(both, "the state is not the one that was signed")


# Replays


async def test_replays_are_refused_for_ever(world: World) -> None:
    raws: list[bytes] = []

    def keep(source: str, target: str, channel: Channel, raw: bytes) -> bool:
        if (source, target, channel) == ("a", "b", Channel.HANDOFF):
            raws.append(raw)
        return False

    world.hub.drops = keep
    x = await world.create("a", "x")
    await world.until(world["a"].depart([x], "b"))
    offer = codec.decode(raws[0], Offer)
    attacker = Attacker(world)
    signed = codec.decode(offer.parcels[0].manifest, Signed)
    manifest = codec.decode(signed.body, Manifest)
    new_id = replace(manifest, transfer=b"n" * 16)
    parcel = replace(offer.parcels[0], manifest=sign_manifest(new_id, identity("a")))
    anew = Offer(new_id.transfer, offer.cargo, (parcel,))
    for back_home in (False, True):
        if back_home:
            world.hub.drops = keep
            await world.until(world["b"].depart([x], "a"))
        attacker.before = attacker.seen()
        for replayed, why in ((offer, "was here before"), (anew, "was here before, at epoch 1 or later")):
            (answer,) = await attacker.answered(replayed)
            assert isinstance(answer, Refuse) and why in answer.reason
        assert await attacker.answered(Notice(offer.transfer, ())) == [Acknowledge(offer.transfer)]
        assert attacker.seen() == attacker.before
        assert world.holder(x) == ("a" if back_home else "b")


async def test_words_out_of_turn(attacker: Attacker) -> None:
    await attacker.is_refused(Notice(b"t" * 16, ()), "which b did not accept")
    y = await attacker.world.create("b", "y")
    move = attacker.world["b"].depart([y], "a")
    await attacker.world.settle()
    (transfer,) = attacker.world["b"].carrier.machine.leaving
    attacker.before = attacker.seen()
    with pytest.raises(PeerFault, match=r"^a: acknowledged handoff .* of which it had no notice"):
        attacker.world["b"].carrier.receive("a", codec.encode(Acknowledge(transfer)))
    for message in (Accept(transfer), Inquire(transfer), Refuse(transfer, ""), Acknowledge(transfer)):
        with pytest.raises(PeerFault, match=r"^c: spoke of handoff .* which is between b and a"):
            attacker.world["b"].carrier.receive("c", codec.encode(message))
    assert attacker.seen() == attacker.before
    await attacker.world.until(move)


# Mail and commands


@pytest.mark.parametrize(
    "post",
    [
        b"",
        NESTED,
        COUNTED,
        codec.encode(["letter", "client-1", 0, 0, 0, "x", "a", "note", b""]),
        codec.encode(["letter", "client-1", 0, -1, -2, "x", "a", "note", b""]),
        codec.encode(["letter", "client-1", 0, 3, 3, "x", "a", "note", b""]),
        codec.encode(["letter", "client-1", 0, 3, -1, "x", "a", "note", b""]),
        codec.encode(["letter", "client-1", 0, 1, 0, "x", "a", "note", bytes((16 << 20) + 1)]),
        codec.encode(["reply", "x", "client-1", 1, "b", True, bytes((16 << 20) + 1)]),
    ],
    ids=range(9),
)
async def test_bad_post(world: World, post: bytes) -> None:
    with pytest.raises(PeerFault, match=r"^a: sent"):
        world["b"].mailroom.receive("a", post)


async def test_mail_in_a_notice_that_is_none_does_not_stop_it(attacker: Attacker) -> None:
    good = Letter("client-a", 0, 1, 0, attacker.birth.agent, "a", "note", codec.encode(7))
    await attacker.answered(attacker.offer())
    await attacker.answered(Notice(b"t" * 16, (b"", NESTED, COUNTED, codec.encode(good))))
    assert attacker.world["b"].state(attacker.birth.agent)["handled"] == [7]


async def test_what_a_registered_host_is_believed(world: World) -> None:
    """The limit that docs/mail.md names: the host speaks for an agent of which no other has spoken."""
    x, y, elsewhere = await world.create("b", "x"), await world.create("b", "y"), "z-0123456789abcdef"
    world["b"].mailroom.receive("a", codec.encode(Letter(elsewhere, 0, 1, 0, x, "b", "note", codec.encode(666))))
    await world.crank()
    assert world["b"].state(x)["handled"] == [666]
    with pytest.raises(PeerFault, match=r"^a: sent a letter in the name of .*, which lives here"):
        world["b"].mailroom.receive("a", codec.encode(Letter(y, 0, 1, 0, x, "b", "note", codec.encode(667))))
    # But nobody's word moves or ends an agent that lives here: that takes its owner's signature.
    for command in (
        sign(Command(x, "dispose", "", FAR), MALLORY),
        sign(Command(x, "dispose", "", world.wall() - 1), OWNER),
        sign(Command(y, "dispose", "", FAR), OWNER),
        sign(Command(x, "dispatch", "a", FAR), identity("a")),
        b"",
        NESTED[:1000],
    ):
        response = await ask(world, Request(1, "a", x, command))
        assert response.error is not None and response.error["message"].startswith("a: sent ")
        assert world.holder(x) == world.holder(y) == "b"
    with pytest.raises(PeerFault, match=r"^a: sent bytes"):
        world["b"].commands.receive("a", codec.encode(Request(1, "a", x, NESTED)))  # no command is so large


async def test_a_command_that_its_owner_signed_is_performed(world: World) -> None:
    x = await world.create("b", "x")
    command = sign(Command(x, "dispatch", "a", world.wall() + LIFE_MS), OWNER)
    response = await ask(world, Request(1, "a", x, command))
    assert response.error is None and world.holder(x) == "a"


@pytest.mark.parametrize("raw", [b"", NESTED, COUNTED, codec.encode(["request", "one", "a", "x", b""])])
async def test_bad_command_papers(world: World, raw: bytes) -> None:
    with pytest.raises(PeerFault, match=r"^a: sent bytes that are no"):
        world["b"].commands.receive("a", raw)


async def ask(world: World, request: Request) -> Response:
    """What host a hears when it sends that to b."""
    heard: list[Response] = []

    def listen(source: str, target: str, channel: Channel, raw: bytes) -> bool:
        if (source, channel) == ("b", Channel.COMMAND):
            heard.append(codec.decode(raw, Response))
        return False

    world.hub.drops = listen
    world["b"].commands.receive("a", codec.encode(request))
    await world.crank()
    (response,) = heard
    return response


async def test_a_false_certificate_is_refused_at_creation(world: World) -> None:
    _, raw = world.birth("x")
    signed = codec.decode(raw, Signed)
    birth = open_birth(raw, "test")
    other = give_birth("x", OWNER, birth.salt, code_digest(b"other"), "module:Class", False)
    for certificate, why in (
        (codec.encode(replace(signed, signature=bytes(64))), "bad signature"),
        (codec.encode(MALLORY.signed("agentplatform/birth", signed.body)), "its owner did not sign"),
        (other, "sent other code than the birth certificate"),
        (NESTED, "no Signed"),
    ):
        with pytest.raises(PeerFault, match=f"^the client: .*{why}"):
            await world["b"].carrier.lifetimes.create(certificate, CODE, b"")
    assert world["b"].runner.asked == []
