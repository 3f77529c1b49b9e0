"""`agentplatform ledger ...`: what the ledger says, as a file that anyone can check without asking anybody."""

import asyncio
import re
from argparse import Namespace
from typing import Any

from agentplatform.console import files
from agentplatform.console.actions import stopped, which_hosts
from agentplatform.frontdoor.client import Host, connect, homes
from agentplatform.parcel.manifest import agent_digest
from ledger import codec, genesisfile, store, subjects
from ledger.contracts import accounts
from ledger.errors import Misuse, PeerFault
from ledger.evidence import Evidence, Place
from ledger.genesis import DOMAIN as GENESIS_DOMAIN
from ledger.identity import KEY_BYTES
from ledger.light import FORMAT, MAX_EXPORT_BYTES, Export, LightClient, read_export, verify_exports

Plain = dict[str, Any]
_AGENT_ID = re.compile(r".+-[0-9a-f]{16}")


def ledger(args: Namespace) -> Plain:
    return dict(connect(args.host, root=args.root).call("ledger"))


def export(args: Namespace) -> Plain:
    """Writes the file. A host that lies would be found out here: what it gave is checked first."""
    host = connect(args.host, root=args.root)
    key = _key(args, host)
    raw = host.call("ledger_export", key=key)["export"]
    shown = read_export(raw, host.name)
    if [proof.key for proof in shown.proofs] != [key]:
        raise PeerFault(host.name, "gave a proof of another key than the one it was asked for")
    client, places = _checked(host.name, [shown], _own(host))
    files.write(args.file, raw)
    return {"file": str(args.file), "bytes": len(raw)} | _plain([shown], client, places)


def verify(args: Namespace) -> Plain:
    """Raises Misuse, with the reason, for a file that proves nothing. Asks no host."""
    shown = []
    for file in args.files:
        try:
            shown.append(read_export(files.read(file, MAX_EXPORT_BYTES), str(file)))
        except PeerFault as fault:
            raise Misuse(f"{fault}; ask whoever gave you the file for a whole one") from None
    names = ", ".join(map(str, args.files))
    return {"files": [str(file) for file in args.files]} | _plain(shown, *_checked(names, shown, _trusted(args, shown)))


def evidence(args: Namespace) -> Plain:
    """Of all running hosts of this machine (or --host): who was seen to sign twice."""
    recorded: dict[str, Plain] = {}
    found: dict[Evidence, list[str]] = {}
    newest = Export(FORMAT, b"", ())
    for host in which_hosts(args):
        shown = read_export(host.call("ledger_evidence")["export"], host.name)
        _checked(host.name, [shown], _own(host))
        newest = max(newest, shown, key=lambda each: (len(each.changes), len(each.genesis)))
        for each in shown.evidence:
            found.setdefault(each, []).append(host.name)
        if args.record:
            recorded |= {row["evidence"]: row for row in host.call("record_evidence")}
    file = Export(FORMAT, newest.genesis, newest.changes, (), tuple(found))
    if args.out is not None:
        files.write(args.out, file.encode())
    client, places = _checked("what the hosts keep", [file], codec.digest(GENESIS_DOMAIN, newest.genesis))
    rows = _plain([file], client, places)["evidence"]
    return {
        "file": None if args.out is None else str(args.out),
        "evidence": [row | {"seen_by": by} for row, by in zip(rows, found.values(), strict=True)],
        "recorded": list(recorded.values()),
    }


def restored(args: Namespace) -> Plain:
    """Marks the data of a host that does not run: its replica signs nothing until it is safe."""
    return {"host": args.name, "height": asyncio.run(_mark(args))}


async def _mark(args: Namespace) -> int:
    async with stopped(args) as (home, disk):
        return await store.mark_restored(disk, genesisfile.read(home.genesis))


def _checked(where: str, shown: list[Export], chain: bytes) -> tuple[LightClient, list[Place]]:
    try:
        return verify_exports(shown, chain)
    except PeerFault as fault:
        raise Misuse(f"{where} proves nothing: {fault}; do not act on it") from None


def _plain(shown: list[Export], client: LightClient, places: list[Place]) -> Plain:
    genesis, newest = shown[0].founding(), client.terms[-1]
    proofs = [proof for each in shown for proof in each.proofs]
    accused = [each for one in shown for each in one.evidence]
    return {
        "chain": client.chain.hex(),
        "name": genesis.name,
        "member_changes": len(client.terms) - 1,
        "members_version": newest.members.version,
        "members": [member.host for member in newest.members.members],
        "proofs": [
            {
                "about": subjects.title(proof.key),
                "key": proof.key.hex(),
                "height": proof.header.height,
                "timestamp": proof.header.timestamp,
                "present": proof.value is not None,
                "value": subjects.plain(proof.key, proof.value),
            }
            for proof in proofs
        ],
        "evidence": [
            {"host": each.host, "kind": place.kind, "height": place.height, "view": place.view}
            for each, place in zip(accused, places, strict=True)
        ],
    }


def _key(args: Namespace, host: Host) -> bytes:
    if args.hop is not None:
        agent, epoch = args.hop
        if not epoch.isascii() or not epoch.isdigit() or not 0 < int(epoch) < 2**63:
            raise Misuse(f"{epoch!r} is no epoch; an agent's first hop brings it to 1")
        full = agent if _AGENT_ID.fullmatch(agent) else host.agent(agent).id
        return subjects.hop_key(agent_digest(full), int(epoch))
    if args.organisation is not None:
        return subjects.organisation_key(args.organisation)
    if args.account is not None:
        account = _hexadecimal(args.account, "key")
        if len(account) != KEY_BYTES:
            raise Misuse(f"an account's key has {KEY_BYTES} bytes, and {args.account!r} has {len(account)}")
        return accounts.state_key(account)
    if args.key.startswith("0x"):
        return _hexadecimal(args.key[2:], "key")
    return str(args.key).encode()


def _hexadecimal(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Misuse(f"{text!r} is no {what} in hexadecimal") from None


def _trusted(args: Namespace, shown: list[Export]) -> bytes:
    """The id of the chain to believe: as it is said, or that of the hosts of this machine. Never the file's own."""
    if args.chain is not None:
        return _hexadecimal(args.chain, "chain's id")
    if args.genesis is not None:
        return genesisfile.read(args.genesis).chain_id()
    known = [home.genesis for name, home in homes(args.root).items() if args.host in (None, name)]
    if not known:
        says = codec.digest(GENESIS_DOMAIN, shown[0].genesis).hex()
        raise Misuse(
            f"no host lives under {args.root}, so say which chain you trust: --genesis FILE or --chain ID. The file"
            f" says it is of chain {says}; ask a member whether that is theirs"
        )
    return genesisfile.read(known[0]).chain_id()


def _own(host: Host) -> bytes:
    return genesisfile.read(host.home.genesis).chain_id()
