"""The state, and a commitment to every key and value in it, with proofs that a key has a value or is absent. Pure.

A key falls into one of 65,536 buckets by the first two bytes of its hash; within it, the rest of the hash is its name
(ledger.bucket). Nothing needs the keys themselves, so they are not kept. Over the buckets stands a 4-ary Merkle tree
of 8 levels (4^8 = 65,536; Merkle, "A digital signature based on a conventional encryption function", CRYPTO '87).
Only what differs from the empty tree is kept, so a small state costs little memory, and a change costs one hash of
its bucket and eight of nodes.

Every hash has its domain, and every proof the full depth, so a bucket is never taken for a node. Nobody needs more
than hashes to fill one bucket with keys of his choice: that makes proofs from it longer, each by what he pays for.
"""

from collections.abc import Mapping
from itertools import repeat
from types import MappingProxyType

import msgspec

from ledger import bucket, codec

KEY_DOMAIN = "agentplatform/state/key"
BUCKET_DOMAIN = "agentplatform/state/bucket"
NODE_DOMAIN = "agentplatform/state/node"
LEVELS = 8
ARITY = 4
BUCKETS = ARITY**LEVELS
AT_ONCE = 4096  # buckets that are hashed at a time, when all are

Changes = Mapping[bytes, bytes | None]  # by key; None: it is removed
Buckets = Mapping[int, bytes]
_PLACE_BYTES = codec.DIGEST_BYTES - bucket.NAME_BYTES


class Proof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The whole bucket that a key falls into, and the siblings on the way up from it to the root."""

    bucket: bytes
    siblings: tuple[bytes, ...]  # from the bucket's level upwards: three digests each, in their order


class Update(msgspec.Struct, frozen=True):
    """What a set of changes makes of a tree: computed first, applied when (and if) the block is decided."""

    root: bytes
    buckets: dict[int, bytes]
    nodes: list[dict[int, bytes]]  # by level, below LEVELS: the digests of a node's children


_key_digest = codec.digester(KEY_DOMAIN)
_bucket_digest = codec.digester(BUCKET_DOMAIN)
_node_digest = codec.digester(NODE_DOMAIN, ARITY * codec.DIGEST_BYTES)  # of its children's digests


def _empty_digests() -> list[bytes]:
    digests = [_bucket_digest(bucket.EMPTY)]
    for _ in range(LEVELS):
        digests.insert(0, _node_digest(digests[0] * ARITY))
    return digests


_EMPTY = _empty_digests()  # by level: what a subtree without any key hashes to
_EMPTY_CHILDREN = [digest * ARITY for digest in _EMPTY[1:]]


def _place_and_name(key: bytes) -> tuple[int, bytes]:
    """The number of the key's bucket, and its name there."""
    digest = _key_digest(key)
    return int.from_bytes(digest[:_PLACE_BYTES], "big"), digest[_PLACE_BYTES:]


def changed(buckets: Buckets, changes: Changes) -> dict[int, bytes]:
    """Those buckets that `changes` touch, as they are then; `buckets` stay as they are."""
    touched: dict[int, dict[bytes, bytes | None]] = {}
    for key, value in changes.items():
        place, name = _place_and_name(key)
        touched.setdefault(place, {})[name] = value
    return {place: bucket.change(buckets.get(place, bucket.EMPTY), names) for place, names in touched.items()}


class Tree:
    """A state. Buckets are bytes, so a copy shares them with what it was copied from."""

    def __init__(self, buckets: Buckets = MappingProxyType({})) -> None:
        """With the content of these buckets. All of them are hashed, some at a time: that keeps the memory low."""
        self._buckets: dict[int, bytes] = {}
        self._nodes: list[dict[int, bytes]] = [{} for _ in range(LEVELS)]
        self._root = _EMPTY[0]
        for first in range(0, BUCKETS if buckets else 0, AT_ONCE):
            places = range(first, first + AT_ONCE)
            self.apply(self._update({place: buckets[place] for place in places if place in buckets}))

    @property
    def root(self) -> bytes:
        return self._root

    def get(self, key: bytes) -> bytes | None:
        place, name = _place_and_name(key)
        found = self._buckets.get(place)
        return None if found is None else bucket.get(found, name)

    def compute(self, changes: Changes) -> Update:
        """The tree after `changes`. This tree stays as it is."""
        return self._update(changed(self._buckets, changes))

    def apply(self, update: Update) -> None:
        """Makes this tree what `update` was computed for; valid only on the tree that computed it."""
        _keep(self._buckets, update.buckets, bucket.EMPTY)
        for kept, nodes, empty in zip(self._nodes, update.nodes, _EMPTY_CHILDREN, strict=True):
            _keep(kept, nodes, empty)
        self._root = update.root

    def copy(self) -> "Tree":
        """Stays as it is when this one changes. Takes milliseconds and some 10 MB at most."""
        copy = Tree()
        copy._buckets, copy._root = self._buckets.copy(), self._root
        copy._nodes = [level.copy() for level in self._nodes]
        return copy

    def prove(self, key: bytes) -> Proof:
        """Evidence for the value of `key`, or for its absence: the same proof serves both."""
        index, _ = _place_and_name(key)
        content = self._buckets.get(index, bucket.EMPTY)
        siblings = []
        for level in range(LEVELS - 1, -1, -1):
            index, place = divmod(index, ARITY)
            before, _, after = _split(self._children(level, index), place)
            siblings.append(before + after)
        return Proof(content, tuple(siblings))

    def level(self, level: int) -> tuple[bytes, ...]:
        """The digests of all nodes of a level; 0 is the root alone."""
        if level == 0:
            return (self._root,)
        parents = (self._children(level - 1, index) for index in range(ARITY ** (level - 1)))
        return tuple(_split(children, place)[1] for children in parents for place in range(ARITY))

    def below(self, level: int, index: int) -> tuple[bytes, ...]:
        """The buckets under one node of `level`, empty ones too."""
        size = ARITY ** (LEVELS - level)
        return tuple(map(self._buckets.get, range(index * size, (index + 1) * size), repeat(bucket.EMPTY)))

    def _children(self, level: int, index: int) -> bytes:
        return self._nodes[level].get(index, _EMPTY_CHILDREN[level])

    def _update(self, buckets: dict[int, bytes]) -> Update:
        nodes: list[dict[int, bytes]] = []
        digests = {place: _bucket_digest(content) for place, content in buckets.items()}
        for level in range(LEVELS - 1, -1, -1):
            kept, empty = self._nodes[level], _EMPTY_CHILDREN[level]
            parents: dict[int, bytes] = {}
            for index, digest in digests.items():
                parent = index // ARITY
                children = parents.get(parent) or kept.get(parent, empty)
                at = index % ARITY * codec.DIGEST_BYTES
                parents[parent] = children[:at] + digest + children[at + codec.DIGEST_BYTES :]
            nodes.insert(0, parents)
            digests = {index: _node_digest(children) for index, children in nodes[0].items()}
        return Update(digests.get(0, self._root), buckets, nodes)


def _keep(kept: dict[int, bytes], changes: Mapping[int, bytes], empty: bytes) -> None:
    for index, content in changes.items():
        if content == empty:
            kept.pop(index, None)
        else:
            kept[index] = content


def _split(digests: bytes, place: int) -> tuple[bytes, bytes, bytes]:
    """The digest at `place`, and what is before and behind it."""
    at = place * codec.DIGEST_BYTES
    return digests[:at], digests[at : at + codec.DIGEST_BYTES], digests[at + codec.DIGEST_BYTES :]


def empty_digest(level: int) -> bytes:
    """Of a node of `level` with no key below it."""
    return _EMPTY[level]


def digest_above(buckets: tuple[bytes, ...]) -> bytes:
    """Of the node that has all of these buckets, empty ones too, under it: 4, 16, 64, .. of them."""
    return root_above(tuple(map(_bucket_digest, buckets)))


def root_above(nodes: tuple[bytes, ...]) -> bytes:
    """Of the node that has these as one whole level under it."""
    while len(nodes) > 1:
        nodes = tuple(_node_digest(b"".join(nodes[first : first + ARITY])) for first in range(0, len(nodes), ARITY))
    return nodes[0]


def verify_proof(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> bool:
    """Whether `proof` shows that under `root` the key has this value (None: that it is absent)."""
    index, name = _place_and_name(key)
    try:
        found = bucket.entries(proof.bucket).get(name)
    except ValueError:
        return False
    if found != value or len(proof.siblings) != LEVELS:
        return False
    node = _bucket_digest(proof.bucket)
    for siblings in proof.siblings:
        if len(siblings) != (ARITY - 1) * codec.DIGEST_BYTES:
            return False
        index, place = divmod(index, ARITY)
        at = place * codec.DIGEST_BYTES
        node = _node_digest(siblings[:at] + node + siblings[at:])
    return node == root
