"""The normal case and the view change: all that the engines of the PBFT family share. Pure.

What is abstract is what makes an engine: what its VIEW-CHANGE shows, and when a NEW-VIEW may be entered.
"""

from abc import abstractmethod
from contextlib import suppress

from ledger import codec
from ledger.block import Block
from ledger.certificate import Certificate
from ledger.consensus.engine import Accuse, Send
from ledger.consensus.messages import (
    NEW_VIEW_DOMAIN,
    ChangeView,
    Content,
    EnterView,
    NewView,
    Recall,
    Recalled,
    Status,
)
from ledger.consensus.normal_case import NormalCase
from ledger.consensus.restored import Fence, Recollection
from ledger.consensus.view_changes import C, Received, open_new_view
from ledger.errors import PeerFault
from ledger.identity import Signed


class Agreement(NormalCase[C]):
    _recollection: Recollection | None = None

    # The engine's own

    @abstractmethod
    def _open_change(self, signed: Signed, sender: str) -> C:
        """Verified, parsed and of good form; of any member, for any view."""

    @abstractmethod
    def _check_body(self, change: C, block: Block | None, sender: str) -> None:
        """Raises PeerFault for a block that is not what `change` says is prepared."""

    @abstractmethod
    def _check_change(self, change: C, sender: str) -> bool:
        """Raises PeerFault for a VIEW-CHANGE whose certificates do not hold; False for one that does not count here."""

    @abstractmethod
    def _still_holds(self, change: C) -> bool:
        """Whether a VIEW-CHANGE still counts, now that another block is the best. May raise PeerFault."""

    @abstractmethod
    def _may_start_from(self, received: Received[C]) -> bool:
        """Whether we, as the primary, can put it into our NEW-VIEW now."""

    @abstractmethod
    def _can_judge(self, new_view: NewView) -> bool:
        """Whether we have come far enough to check what a NEW-VIEW rests on."""

    @abstractmethod
    def _try_to_enter(self, sender: str, new_view: NewView, message: EnterView) -> None:
        """Checks a NEW-VIEW that can be judged, and enters it. Raises PeerFault for one that no honest member sends."""

    # What arrives

    def _receive(self, sender: str, content: Content) -> None:
        match content:
            case ChangeView():
                self._on_change_view(sender, content)
            case EnterView():
                self._on_enter_view(sender, content)
            case Recall():
                if self._at.fence is None:  # who has forgotten is no witness
                    self._send(sender, Recalled(content.nonce, self._at.best.header.height, self._at.view))
            case Recalled():
                if self._recollection is not None:
                    self._recollection.heard(sender, content)
                    self._catch_up.heard(sender, content.height, self._at.best.header.height, self._now)
            case _:
                super()._receive(sender, content)

    def _on_change_view(self, sender: str, message: ChangeView) -> None:
        """Clause 6: one is kept for each sender; again, when it can show more, replaces it and is no evidence."""
        at = self._at
        earlier = at.changes.of(sender)
        if at.members.key_of(sender) is None or not self._is_of_member(message.signed):
            return
        if earlier is not None and earlier.message == message:
            return
        change = self._open_change(message.signed, sender)
        if change.host != sender or change.chain != at.best.header.chain:
            raise PeerFault(sender, "sent a VIEW-CHANGE of another host or chain")
        self._check_body(change, message.block, sender)
        if not self._is_ahead(change.view):
            if change.view == at.view and at.leads:
                self._send_view(sender)  # it missed our NEW-VIEW
            return
        if earlier is not None and (earlier.change.view, earlier.height) >= (change.view, change.height):
            same_place = (earlier.change.view, earlier.height) == (change.view, change.height)
            versions = {earlier.change.members_version, change.members_version, at.members.version}
            if same_place and change.height == at.shown and len(versions) == 1:  # else nobody could check it
                self._effects.append(Accuse(sender, at.view_change_domain, earlier.message.signed, message.signed))
            return
        if self._check_change(change, sender):
            at.changes.put(Received(change, message))
        self._catch_up.heard(sender, change.height, at.best.header.height, self._now)

    def _on_enter_view(self, sender: str, message: EnterView) -> None:
        at = self._at
        if not self._is_of_member(message.signed):
            return  # once we are as high as the sender, it sends this again
        new_view = open_new_view(message.signed, at.members, self._verify, sender)
        if new_view.chain != at.best.header.chain:
            raise PeerFault(sender, "sent a NEW-VIEW of another chain")
        if not self._is_ahead(new_view.view):
            self._compare(new_view, message)
            return
        if self._can_judge(new_view):
            self._try_to_enter(sender, new_view, message)
        else:
            at.new_views[sender] = (new_view, message)
            self._catch_up.heard(sender, new_view.height, at.best.header.height, self._now)

    def _compare(self, new_view: NewView, message: EnterView) -> None:
        """Clause 9: a second NEW-VIEW of one host for the view that we are in is evidence. The same again is none."""
        at = self._at
        entered = at.entered() if new_view.view == at.view else None
        if entered is None or entered.signed == message.signed or entered.signed.signer != message.signed.signer:
            return
        first = codec.decode(entered.signed.body, NewView)
        ours = first.members_version == new_view.members_version == at.members.version
        if ours and first.height <= new_view.height <= at.best.header.height:  # else nobody could check it
            self._effects.append(Accuse(new_view.host, NEW_VIEW_DOMAIN, entered.signed, message.signed))

    def _on_status(self, sender: str, status: Status) -> None:
        super()._on_status(sender, status)
        if (status.view, status.active) < (self._at.view, self._at.active):
            self._send_view(sender)

    def _is_of_member(self, signed: Signed) -> bool:
        """Else it is of a former member or a later one, or by a key from before or after a rotation: nobody's fault."""
        return any(signed.signer == member.key for member in self._at.members.members)

    def _is_ahead(self, view: int) -> bool:
        return view > self._at.view or (view == self._at.view and not self._at.active)

    # What follows

    def _change_view(self) -> bool:
        return self._pass_fence() or self._join_view_change() or self._lead_new_view() or self._follow_new_view()

    def _join_view_change(self) -> bool:
        """Clause 6: f+1 hosts ask for a higher view."""
        view = self._at.changes.view_to_join(self._at.view, self._at.members.f)
        if view is None or not self._at.is_member:
            return False
        self._start_view_change(view)
        return True

    def _lead_new_view(self) -> bool:
        """q VIEW-CHANGEs make a NEW-VIEW."""
        at = self._at
        if at.active or not at.leads:
            return False
        others = [r for r in at.changes.for_view(at.view) if r.change.host != at.host]
        usable = [r for r in others if self._may_start_from(r)][: at.members.quorum - 1]
        if len(usable) < at.members.quorum - 1:
            return False
        self._renew_view_change()
        new_view, message = at.new_view([at.own_change, *usable])
        self._enter(new_view, message)
        self._send(None, message)
        return True

    def _follow_new_view(self) -> bool:
        """The NEW-VIEWs that waited for us to catch up."""
        waiting = self._at.new_views
        for sender, (new_view, message) in list(waiting.items()):
            ahead = self._is_ahead(new_view.view)
            if not ahead or self._can_judge(new_view):
                del waiting[sender]
            if ahead and sender not in waiting:
                with suppress(PeerFault):
                    self._try_to_enter(sender, new_view, message)
                    return True
        return False

    def _enter(self, new_view: NewView, message: EnterView) -> None:
        self._effects.append(self._at.enter_view(new_view, message))
        self._expect_more()

    def _append(self, block: Block, certificate: Certificate) -> None:
        if self._at.has_forgotten(certificate):
            self._effects.append(self._at.put_fence(Fence()))
        super()._append(block, certificate)
        self._review_changes()

    def _review_changes(self) -> None:
        """Drops the VIEW-CHANGEs that no longer count."""
        at = self._at
        for received in at.changes.all():
            host, signer = received.change.host, received.message.signed.signer
            try:
                keep = at.members.key_of(host) == signer and self._still_holds(received.change)
            except PeerFault:
                keep = False
            if not keep:
                at.changes.remove(host)

    # Time

    def _beat(self) -> None:
        super()._beat()
        at = self._at
        if at.is_member and not at.active and not self._renew_view_change():
            self._send(None, at.own_change.message)
        if at.fence is not None and not at.fence.is_of(at.members):
            if self._recollection is None:
                self._recollection = Recollection(self._wall)
            self._send(None, Recall(self._recollection.nonce))

    def _set_deadline(self) -> None:
        """It runs while there is something to decide; without a view, once q hosts ask for one (clause 6)."""
        at = self._at
        if at.active:
            due = at.current is not None or at.forced is not None
        else:
            due = at.changes.count_from(at.view) >= at.members.quorum
        if due:
            self._timers.expect_decision(self._now)

    def _suspect(self) -> None:
        """The deadline has passed."""
        at = self._at
        self._timers.deadline = None
        if not at.is_member:
            return
        due = not at.active or at.current is not None or at.forced is not None
        if due or at.chain.build(self._wall, at.host) is not None:
            self._start_view_change(at.view + 1)

    def _start_view_change(self, view: int) -> None:
        self._timers.view_failed()
        self._effects.append(self._at.promise_view(view))
        self._send(None, self._at.own_change.message)
        self._timers.beat_soon(self._now)

    def _renew_view_change(self) -> bool:
        """Our VIEW-CHANGE shows up to where we have come; when that has changed, it is made again."""
        at = self._at
        own = at.changes.of(at.host)
        if own is not None and own.height == at.shown:
            return False
        self._effects.append(at.promise_view(at.view))
        self._send(None, at.own_change.message)
        return True

    def _send_view(self, to: str) -> None:
        """What brings a replica into our view: the NEW-VIEW, or our VIEW-CHANGE while we have none."""
        at = self._at
        message = at.record.new_view if at.active else at.record.view_change
        if message is not None and self._catch_up.may_show(to, (at.view, at.active), self._now):
            self._effects.append(Send(to, message))

    # An old copy of our data (ledger.consensus.restored)

    def _pass_fence(self) -> bool:
        at, fence = self._at, self._at.fence
        if fence is None:
            return False
        if not fence.is_of(at.members):
            found = self._recollection and self._recollection.fence(at.members, at.host, at.best.header.height)
            if not found:
                return False
            self._effects.append(at.put_fence(found))
            return True
        if at.shown < fence.height or not at.has_seat:
            return False
        behind_us = at.put_fence(None)
        if at.view < fence.view:
            self._start_view_change(fence.view)  # durable before the fence is gone
        self._effects.append(behind_us)
        return True
