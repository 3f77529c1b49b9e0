"""What comes over a host's links goes to the room that it is for; and what hosts tell each other unasked.

Links carry channels (ledger.links.base.Channel): the handoff, mail, commands, and bulletins (agentplatform.bulletins).
A host that sends what must not be sent is named in the log, and in the end loses its link.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from agentplatform.bulletins import (
    Bulletin,
    CallBack,
    Endpoint,
    Heard,
    Rehomed,
    Residents,
    Seek,
    Services,
    SetOut,
    Silent,
    Stayed,
    StaysAway,
    Topics,
    in_parts,
)
from agentplatform.bulletins import Rms as RmsBulletin
from agentplatform.calling_back import CallingBack
from agentplatform.commands import Commands
from agentplatform.custody.carry import Carrier, is_recall
from agentplatform.custody.copies.messages import decode as decode_copy
from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.rehoming import Rehoming
from agentplatform.dataorders import MAX_ANSWER_BYTES
from agentplatform.directory import Directory
from agentplatform.kinds import Found, Query, Service
from agentplatform.mailroom.roads import SEEK_AT_ONCE, Roads
from agentplatform.mailroom.room import Mailroom
from agentplatform.parcel.freight import PIECE_BYTES
from agentplatform.parcel.manifest import Birth
from agentplatform.passes import Trail
from agentplatform.porch import Porch
from agentplatform.setting_out import SettingOut
from agentplatform.whereabouts import Located, Whereabouts
from ledger import codec
from ledger.errors import Misuse, PeerFault
from ledger.links.base import Channel, Links
from services.eds.events import UserMoved
from services.rms.service import Rms

log = logging.getLogger(__name__)
_BULLETIN: Any = Bulletin
MAX_MESSAGE = {  # bytes; the others have the link's own limit
    Channel.ADVERT: 64 * 1024,
    Channel.COMMAND: MAX_ANSWER_BYTES + 64 * 1024,
    Channel.BULK: PIECE_BYTES + 1024,
}
MAX_FAULTS = 100  # messages of one host and minute that are refused before its link is ended
RESIDENTS_AT_ONCE = 128  # well within an advert, each with one pass
SERVICES_AT_ONCE = 24  # certificates, each with directory.MAX_CERTIFICATE bytes
TOLD_SECONDS = 10.0  # in which it is repeated that an agent went on here
TOPICS_AT_ONCE = 12  # agents, each with MAX_TOPIC_BYTES


class Exchange:
    def __init__(
        self,
        host: str,
        links: Links,
        whereabouts: Whereabouts,
        carrier: Carrier,
        replication: Replication,
        rehoming: Rehoming,
        certified: Callable[[bytes, str], Birth],
        roads: Roads,
        mailroom: Mailroom,
        commands: Commands,
        rms: Rms,
        user_moved: Callable[[UserMoved, str], None],
        back: CallingBack,
        setting_out: SettingOut,
    ) -> None:
        """`certified(certificate, sender)` opens a birth certificate or raises PeerFault; `user_moved(event, teller)`
        acts on the event here."""
        self.directory = Directory(host)
        self.endpoint = ""  # of this host, for requests; "": none that others should know
        self.endpoints: dict[str, str] = {}  # of the others, while there is a link to them
        self._host, self._links, self._whereabouts = host, links, whereabouts
        self._carrier, self._roads, self._mailroom, self._commands = carrier, roads, mailroom, commands
        self._replication, self._rehoming, self._certified = replication, rehoming, certified
        self._rms, self._user_moved, self._back, self._setting_out = rms, user_moved, back, setting_out
        self.blamed: Callable[[str, str, PeerFault], None] = lambda host, kind, fault: None  # told of what is refused
        self._faults: dict[str, tuple[int, int]] = {}  # host -> the minute, and its faults in it
        # host -> agents that should be there, and that it has not named since its link came up
        self._unnamed: dict[str, set[str]] = {}
        self.porch = Porch(
            self._received,
            self._link_changed,
            lambda channel, message: channel == Channel.HANDOFF and is_recall(message),
            lambda host: carrier.recalls.linked(host),
        )
        links.on_message(self.porch.arrived)
        links.on_change(self.porch.linked)

    # What this host tells the others

    def tell(self, host: str, bulletin: Bulletin) -> bool:
        return self._links.send(host, Channel.ADVERT, codec.encode(bulletin))

    def tell_all(self, bulletin: Bulletin) -> None:
        for host in self._links.up():
            self.tell(host, bulletin)

    def located(self, agent: str, epoch: int, host: str, trail: Trail = ()) -> None:
        """An agent is on `host` now, where `trail` leads; "" means that it ended here."""
        ended = None if host else int(time.time() * 1000)
        if ended is not None:
            self._mailroom.ended(agent, ended)
            self.directory.forget(agent)
        located = Located(agent, epoch, host or self._host, ended, trail)
        if self._whereabouts.learn(located):
            self.tell_all(Residents((_short(located),)))
            self._mailroom.resend({agent})
            self._announce(agent)
        known = self._carrier.machine.agents.get(agent)
        if known is not None and known.held:  # of the others there may be thousands
            self.rehomed()

    def _announce(self, agent: str) -> None:
        """If it lives here and offers a service."""
        resident = self._carrier.residents.known.get(agent)
        if resident is not None and isinstance(resident.birth.kind, Service):
            with contextlib.suppress(PeerFault):  # a clone's certificate is not its owner's
                self.directory.learn(self._host, resident.certificate)
            if agent in self.directory:
                self.tell_all(Services((resident.certificate,)))

    def learn(self, located: Located) -> None:
        """What the ledger says."""
        if self._whereabouts.learn(located):
            self._mailroom.resend({located.agent})

    def learn_declared(self) -> None:
        """Where agents are whose last host is lost: nobody else can say."""
        for each in self._whereabouts.alive():
            found = self._carrier.declarations.of(each.agent)
            if found is not None and found.destination != self._host:
                self.learn(Located(each.agent, found.epoch, found.destination))

    def rehomed(self) -> None:
        """Tells of agents that went on here lately, and again to those whose chain did not say so yet."""
        for certificate, epoch in self._rehoming.here(time.time() - TOLD_SECONDS):
            self.tell_all(Rehomed(certificate, epoch))

    def recall(self, ends: Mapping[str, int]) -> None:
        """After a start: what our own log says of agents that lived here. `ends`: when those ended that ended here."""
        for known in self._carrier.machine.agents.values():
            if known.to is not None:
                self._whereabouts.learn(Located(known.agent, known.epoch + 1, known.to))
            elif known.agent in self._carrier.machine.quarantined:
                self._whereabouts.learn(Located(known.agent, known.epoch, self._host))
            elif not known.here:
                self._whereabouts.learn(Located(known.agent, known.epoch, self._host, ends.get(known.agent, 0)))

    def remind(self) -> None:
        """Once in a while: asks hosts, once, after agents that may have ended there while there was no link: they tell
        of these only when they are asked."""
        self.rehomed()
        for host in self._links.up() & self._unnamed.keys():
            agents = self._unnamed.pop(host)
            asked = [(each.agent, each.epoch - 1) for each in self._whereabouts.on(host) if each.agent in agents]
            for some in in_parts(asked, SEEK_AT_ONCE):
                self.tell(host, Seek(some))

    def find(self, query: Query, trusted: Callable[[str], bool]) -> list[Found]:
        """Services of this host's directory, where they are by its whereabouts; not on hosts that are not trusted."""
        links = self._rms.links()

        def where(agent: str) -> str | None:
            host = self._whereabouts.host_of(agent)
            return host if host and trusted(host) else None

        def distance(host: str) -> float | None:
            link = links.get((self._host, host))
            return None if link is None else link.rtt_ms

        return self.directory.find(query, where, distance)

    def happened(self, event: UserMoved) -> None:
        """Told to the others too: the group that it concerns may be decided about elsewhere. Raises Misuse for more
        than they take."""
        size, most = len(codec.encode(Heard(event))), MAX_MESSAGE[Channel.ADVERT]
        if size > most:
            raise Misuse(f"the event has {size} bytes, and hosts take {most}: give the access to fewer hosts")
        self._user_moved(event, "")
        self.tell_all(Heard(event))

    # What comes over the links

    def _received(self, host: str, channel: Channel, message: bytes) -> None:
        try:
            if len(message) > MAX_MESSAGE.get(channel, len(message)):
                raise PeerFault(host, f"sent {len(message)} bytes; at most {MAX_MESSAGE[channel]} are taken there")
            if channel == Channel.HANDOFF:
                self._carrier.receive(host, message)
            elif channel == Channel.BULK:
                self._carrier.stream(host, message)
            elif channel == Channel.COPY:
                copy = decode_copy(message, host)
                self._replication.receive(host, copy)
                self._rehoming.receive(host, copy)
            elif channel == Channel.MAIL:
                self._mailroom.receive(host, message)
            elif channel == Channel.ADVERT:
                self._heard(host, codec.decode(message, _BULLETIN, host))
            elif channel == Channel.COMMAND:
                self._commands.receive(host, message)
        except PeerFault as fault:
            self._blame(host, channel, fault)

    def _blame(self, host: str, channel: Channel, fault: PeerFault) -> None:
        """One line for the first fault of a minute; a peer that goes on loses its link (TlsLinks ends it)."""
        self.blamed(host, channel.name.lower(), fault)
        minute = int(time.monotonic() / 60)
        since, count = self._faults.get(host, (minute, 0))
        count = count + 1 if since == minute else 1
        self._faults[host] = minute, count
        if count == 1 or count == MAX_FAULTS:
            log.warning("a message on channel %s was refused (fault %d of this minute): %s", channel.name, count, fault)
        if count >= MAX_FAULTS:
            raise fault

    def _heard(self, host: str, bulletin: Bulletin) -> None:
        match bulletin:
            case RmsBulletin(message):
                self._rms.received(host, message)
            case Endpoint(address):
                self.endpoints[host] = address
            case Heard(event):
                self._user_moved(event, host)
            case Seek(agents):
                self._roads.sought(host, agents)
            case CallBack() | StaysAway():
                self._back.heard(host, bulletin)
            case SetOut() | Stayed():
                self._setting_out.heard(host, bulletin)
            case Silent(subjects):
                self._rehoming.heard(subjects)
            case Rehomed(certificate, epoch):
                birth = self._certified(certificate, host)
                if self._rehoming.lives(birth, epoch, host) and not self._ours(birth.agent):
                    self.learn(Located(birth.agent, epoch, host))
            case Topics(subscribed):
                for each in subscribed:
                    if not self._ours(each.agent) and self._whereabouts.host_of(each.agent) == host:
                        self._mailroom.subscriptions.learn(host, each)
            case Services(certificates):
                for certificate in certificates:
                    agent = self.directory.learn(host, certificate)
                    if agent is not None and self._whereabouts.host_of(agent) == "":
                        self.directory.forget(agent)
            case Residents(located):
                # All of them, before anything is sent after one of them.
                if news := {each.agent for each in located if self._hear(host, each)}:
                    self._mailroom.resend(news)

    def _hear(self, host: str, located: Located) -> bool:
        if host == located.host:
            self._unnamed.get(host, set()).discard(located.agent)
        if self._ours(located.agent) or located.host == self._host or not self._whereabouts.hear(host, located):
            return False
        if host != located.host:
            self._unnamed.setdefault(located.host, set()).add(located.agent)
        if self._whereabouts.host_of(located.agent) == "":
            self._mailroom.subscriptions.forget(located.agent)
            self.directory.forget(located.agent)
        return True

    def _ours(self, agent: str) -> bool:
        """Of what lives here only we speak."""
        return self._carrier.machine.here(agent) is not None

    def _link_changed(self, host: str, up: bool) -> None:
        log.info("the link to %s is %s", host, "up" if up else "down")
        self._roads.link_changed(host, up)
        if not up:
            self._unnamed.pop(host, None)
            self.endpoints.pop(host, None)
            self._carrier.departures.lost(host)
            return
        if self.endpoint:
            self.tell(host, Endpoint(self.endpoint))
        doubtful = self._carrier.machine.quarantined
        here = [_short(each) for each in self._whereabouts.on(self._host) if each.agent not in doubtful]
        for located in in_parts(here, RESIDENTS_AT_ONCE):
            self.tell(host, Residents(located))
        for topics in in_parts(self._mailroom.topics_here(), TOPICS_AT_ONCE):
            self.tell(host, Topics(topics))
        known = self._carrier.residents.known
        services = [resident.certificate for agent, resident in known.items() if agent in self.directory]
        for certificates in in_parts(services, SERVICES_AT_ONCE):
            self.tell(host, Services(certificates))
        self._carrier.linked(host)
        self._replication.linked(host)
        for certificate, epoch in self._rehoming.here():
            self.tell(host, Rehomed(certificate, epoch))
        self._unnamed[host] = {located.agent for located in self._whereabouts.on(host)}
        self._mailroom.resend()


def _short(located: Located) -> Located:
    """With the last step of its trail: enough for whoever knows the one before. Others ask (Seek)."""
    return replace(located, trail=located.trail[-1:])
