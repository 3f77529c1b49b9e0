"""When what agents send may leave: as soon as what it rests on is durable, and within the host often before."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from agentplatform.mail import Letter, Reply
from agentplatform.outbox import Outbox

_Key = tuple[bool, str, str, int]  # of a letter (True) or reply: sender, receiver, sequence


class Leaving:
    def __init__(
        self,
        release: Callable[[str, Callable[[], None]], None],
        route: Callable[[Letter | Reply], None],
        outbox: Outbox,
        broken: Callable[[str], None],
    ) -> None:
        """`release` is the gateway's; `route` sends; `broken(reason)` ends the host when what an agent did was not
        written."""
        self._release, self._route, self._outbox, self._broken = release, route, outbox, broken
        self._unwritten: set[_Key] = set()  # what may not leave yet
        self.transacting: set[str] = set()  # agents here whose answers rest on checkpoints

    def written(self, post: Letter | Reply) -> bool:
        """Whether it may leave, as far as the disk goes."""
        return _key(post) not in self._unwritten

    def now(self, post: Letter | Reply) -> None:
        """It rests on nothing that is not written."""
        self._release(post.sender, lambda: self._route(post))

    def again(self, posts: Iterable[Letter | Reply]) -> None:
        """Those that may leave."""
        for post in posts:
            if self.written(post):
                self.now(post)

    def when(self, durable: "asyncio.Future[None]", posts: Sequence[Letter | Reply]) -> None:
        """When `durable` is. If that fails, never: the agent is ahead of what is written of it.

        Within the host they need not wait for the disk where what comes of them is written behind them: the log
        has it in this order, or has none of it. What other hosts must have first does not go ahead; nor does what is
        for an agent that they have copies of: such a copy may know of it when this host has lost it with the power.
        """
        self._unwritten.update(map(_key, posts))
        ahead: list[Letter | Reply] = []
        later: list[Letter | Reply] = []
        for post in posts:
            replicated = self._outbox.replicated(post.sender) or self._outbox.replicated(post.receiver)
            goes_ahead = post.receiver in self.transacting and not replicated
            (ahead if goes_ahead else later).append(post)

        def go_ahead(post: Letter | Reply) -> None:
            """The gateway may have kept it until its receiver had left: then it waits for the disk like any other."""
            if post.receiver in self.transacting or self.written(post):
                self._route(post)
            else:
                later.append(post)

        for post in ahead:
            self._release(post.sender, lambda post=post: go_ahead(post))  # type: ignore[misc]

        def leave(done: "asyncio.Future[None]") -> None:
            if done.cancelled():  # the agent left, and took it along
                self._unwritten.difference_update(map(_key, posts))
                return
            if (error := done.exception()) is not None:
                self._broken(f"the custody journal did not take what an agent did: {error}")
                return
            self._unwritten.difference_update(map(_key, posts))
            for post in later:
                self.now(post)

        durable.add_done_callback(leave)


def _key(post: Letter | Reply) -> _Key:
    return isinstance(post, Letter), post.sender, post.receiver, post.sequence
