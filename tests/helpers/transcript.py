"""What happens in a script, a line each: for people who read a story that went wrong."""

from typing import Any

from ledger import codec
from ledger.block import Block
from ledger.consensus.messages import Blocks, ChangeView, Content, EnterView, Fetch, NewView, Propose, Status, Vote


def told(content: Content, view_change: type[Any]) -> str:
    """`view_change` is what the engines write into a VIEW-CHANGE."""
    match content:
        case Propose(view, block):
            return f"proposes {shown(block)} in view {view}"
        case Vote(ballot):
            return f"{ballot.kind}s {ballot.digest.hex()[:4]} at height {ballot.height} in view {ballot.view}"
        case ChangeView(signed):
            change = codec.decode(signed.body, view_change)
            certificates = change.prepared if isinstance(change.prepared, tuple) else [change.prepared]
            ballots = [certificate.ballot for certificate in certificates if certificate]
            prepared = ", ".join(f"{ballot.digest.hex()[:4]} of view {ballot.view}" for ballot in ballots) or "nothing"
            return f"asks for view {change.view}: has decided up to {change.height}, and prepared {prepared}"
        case EnterView(signed):
            new_view = codec.decode(signed.body, NewView)
            forced = ", ".join(digest.hex()[:4] for _, digest in new_view.forced) or "nothing"
            return f"opens view {new_view.view} above height {new_view.height}: forced is {forced}"
        case Status(height, view, active):
            return f"is at height {height}, {'in' if active else 'waiting for'} view {view}"
        case Fetch(first):
            return f"asks for the blocks from {first} on"
        case Blocks(blocks):
            return "serves " + ", ".join(shown(block) for block, _ in blocks)
    return "passes transactions on"


def shown(block: Block) -> str:
    return f"block {block.header.height} {block.digest().hex()[:4]} {[each.decode() for each in block.transactions]}"
