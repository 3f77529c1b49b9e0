"""Packs what goes with an agent: the parcel of its offer, and the pass and mail that follow when it is committed."""

import platform
import time
from collections.abc import Sequence

from agentplatform.custody.messages import Cargo
from agentplatform.custody.residents import Residents
from agentplatform.mailroom.room import Mailroom
from agentplatform.parcel.freight import Freight, State, Stowed, state_digest, travelling
from agentplatform.parcel.manifest import Manifest, Parcel, luggage_digest, sign_manifest
from agentplatform.passes import Pass
from agentplatform.passes import sign as sign_pass
from agentplatform.runners.place import MAX_STATE_BYTES, not_held
from ledger import codec
from ledger.errors import Misuse
from ledger.identity import Identity
from ledger.links.base import MAX_MESSAGE_BYTES

PYTHON = ".".join(platform.python_version_tuple()[:2])
MAX_MAIL_BYTES = MAX_MESSAGE_BYTES // 2  # of a notice
_ENVELOPE_BYTES = 64 * 1024  # what an offer has beside its parcels is far less


class Packer:
    def __init__(
        self, identity: Identity, chain: bytes, residents: Residents, mailroom: Mailroom, parcel_life: float
    ) -> None:
        """`parcel_life`: seconds for which a parcel is taken."""
        self._identity, self._chain = identity, chain
        self._residents, self._mailroom = residents, mailroom
        self._parcel_life = parcel_life
        self._known_code: dict[str, set[bytes]] = {}  # what a host has, as far as its answers tell

    def parcel(self, transfer: bytes, to: str, load: Cargo, state: Stowed) -> Parcel:
        """Of a resident that is frozen. Its mailbox is closed by it."""
        resident = self._residents.known[load.agent]
        birth = resident.birth
        luggage = codec.encode(self._mailroom.close(load.agent))
        manifest = Manifest(
            chain=self._chain,
            transfer=transfer,
            source=self._residents.host,
            destination=to,
            agent=birth.agent,
            owner=birth.owner,
            epoch=load.epoch,
            birth=resident.certificate,
            code=birth.code,
            state=state_digest(travelling(state)),
            luggage=luggage_digest(luggage),
            python=PYTHON,
            expires=int((time.time() + self._parcel_life) * 1000),
        )
        known = to == self._residents.host or birth.code in self._known_code.get(to, ())
        code = None if known else self._residents.code_at_hand(birth)
        return Parcel(sign_manifest(manifest, self._identity), travelling(state), luggage, code)

    def has_code(self, host: str, code: bytes) -> None:
        """From now on `host` is not sent this code."""
        self._known_code.setdefault(host, set()).add(code)

    def forget_code(self, host: str) -> None:
        """It may have lost what it had."""
        self._known_code.pop(host, None)

    def passes(self, to: str, cargo: tuple[Cargo, ...]) -> tuple[Pass, ...]:
        """Only for what is committed: they prove that the agents are the destination's."""
        host = self._residents.host
        return tuple(sign_pass(self._chain, load.agent, load.epoch, host, to, self._identity) for load in cargo)

    def mail(self, passes: tuple[Pass, ...], cargo: tuple[Cargo, ...]) -> tuple[bytes, ...]:
        """Their passes, and what waits for them, as far as one message holds it. The senders keep the rest, and send
        it again."""
        waiting = (codec.encode(letter) for load in cargo for letter in self._mailroom.waiting(load.agent))
        sizes = 0
        mail = [codec.encode(each) for each in passes]
        for letter in waiting:
            sizes += len(letter)
            if sizes > MAX_MAIL_BYTES:
                break  # none after it either: a letter that leaves a gap is not taken
            mail.append(letter)
        return tuple(mail)


def check_size(cargo: Sequence[Cargo], parcels: Sequence[Parcel]) -> None:
    """An offer is one message: what does not fit into it must not even be announced; nor must a state that holders
    would not take. Raises Misuse."""
    for load, parcel in zip(cargo, parcels, strict=True):
        if load.held and isinstance(parcel.state, Freight) and parcel.state.size > MAX_STATE_BYTES:
            raise Misuse(f"{load.agent}: {not_held(parcel.state.size)}")
    parts = ((each.manifest, _inline(each.state), each.luggage, each.code or b"") for each in parcels)
    size = sum(len(part) for parcel in parts for part in parcel)
    most = MAX_MESSAGE_BYTES - _ENVELOPE_BYTES
    if size > most:
        names = ", ".join(load.agent for load in cargo)
        raise Misuse(
            f"{names}: state, mail and code have {size} bytes, and a handoff takes at most {most}; "
            "let the state be smaller, or the agents go one by one"
        )


def _inline(state: State) -> bytes:
    """What the offer itself has of it."""
    return state.digests if isinstance(state, Freight) else state
