"""From whom post is taken: from the host alone that its sender lives on, straight. Pure.

No letter is signed. A link proves which host sends, and the book of whereabouts (agentplatform.whereabouts) says which
host an agent is on, whom to believe about it, and how far its epoch is proved: so whoever writes in the name of an
agent must be the host where it is believed to be. The name of a client says which host it belongs to.
"""

from agentplatform.mail import Letter, Settled
from agentplatform.whereabouts import Located, Whereabouts
from ledger.errors import PeerFault


def proved(post: Letter | Settled, host: str, whereabouts: Whereabouts) -> int | None:
    """How far the epoch of the sender is proved of what `host` brings; None when it is not for that host to say.

    Raises PeerFault, naming the host, for a sender that it can never have.
    """
    sender = post.sender
    if "@" in sender:
        if not sender.endswith(f"@{host}") or (isinstance(post, Letter) and post.origin != host):
            raise PeerFault(host, f"sent post in the name of {sender:.80}, a client of another host")
        return 0
    if isinstance(post, Letter) and whereabouts.believed(sender) is None:
        try:  # it is the first word about that agent
            whereabouts.hear(host, Located(sender, post.epoch, host))
        except ValueError as error:
            raise PeerFault(host, f"sent a letter of nobody: {error}") from None
    return whereabouts.vouched(sender, host)


def may_answer(agent: str, host: str, whereabouts: Whereabouts) -> bool:
    """Whether `host` may answer for `agent`: it is believed to be there, or our mail to it is tried there now."""
    place = whereabouts.believed(agent)
    if place is None or place.host == host:
        return place is not None
    place = whereabouts.place(agent)
    return place is not None and place.host == host
