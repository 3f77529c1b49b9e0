"""The state tree: a commitment to every key and value, with proofs that a key has a value or is absent. Pure.

A key falls into one of 65,536 buckets by the first two bytes of its hash; a bucket is the sorted list of
its keys' and values' hashes. Over the buckets stands a 4-ary Merkle tree of 8 levels (4^8 = 65,536; Merkle,
"A digital signature based on a conventional encryption function", CRYPTO '87). Only what differs from the
empty tree is kept, so a small state costs little memory and a change costs eight hashes a bucket.
"""

from collections.abc import Mapping

import msgspec

from ledger import codec

KEY_DOMAIN = "agentplatform/state/key"
VALUE_DOMAIN = "agentplatform/state/value"
BUCKET_DOMAIN = "agentplatform/state/bucket"
NODE_DOMAIN = "agentplatform/state/node"
LEVELS = 8
ARITY = 4

Bucket = Mapping[bytes, bytes]  # hash of a key -> hash of its value


class Proof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The whole bucket that a key falls into, and the siblings on the way up from it to the root."""

    bucket: tuple[tuple[bytes, bytes], ...]  # (hash of key, hash of value), sorted
    siblings: tuple[tuple[bytes, bytes, bytes], ...]  # from the bucket's level upwards, in their order


class Update(msgspec.Struct, frozen=True):
    """What a set of changes makes of a tree: computed first, applied when (and if) the block is decided."""

    root: bytes
    buckets: dict[int, dict[bytes, bytes]]
    nodes: list[dict[int, bytes]]  # by level; 0 is the root, LEVELS the buckets


def _bucket_digest(bucket: Bucket) -> bytes:
    if not bucket:
        return codec.digest(BUCKET_DOMAIN)
    return codec.digest_of_digests(BUCKET_DOMAIN, [part for pair in sorted(bucket.items()) for part in pair])


def _node(children: list[bytes]) -> bytes:
    return codec.digest_of_digests(NODE_DOMAIN, children)


def _empty_digests() -> list[bytes]:
    digests = [_bucket_digest({})]
    for _ in range(LEVELS):
        digests.insert(0, _node([digests[0]] * ARITY))
    return digests


_EMPTY = _empty_digests()  # by level: what a subtree without any key hashes to


def _key_hash(key: bytes) -> bytes:
    return codec.digest(KEY_DOMAIN, key)


def _value_hash(value: bytes) -> bytes:
    return codec.digest(VALUE_DOMAIN, value)


def _index(key_hash: bytes) -> int:
    return int.from_bytes(key_hash[:2], "big")


class Tree:
    def __init__(self) -> None:
        self._buckets: dict[int, dict[bytes, bytes]] = {}
        self._nodes: list[dict[int, bytes]] = [{} for _ in range(LEVELS + 1)]

    @property
    def root(self) -> bytes:
        return self._digest(0, 0)

    def compute(self, changes: Mapping[bytes, bytes | None]) -> Update:
        """The tree after `changes` (None: the key is removed). This tree stays as it is."""
        buckets: dict[int, dict[bytes, bytes]] = {}
        for key, value in changes.items():
            key_hash = _key_hash(key)
            index = _index(key_hash)
            if index not in buckets:
                buckets[index] = dict(self._buckets.get(index, {}))
            if value is None:
                buckets[index].pop(key_hash, None)
            else:
                buckets[index][key_hash] = _value_hash(value)
        nodes: list[dict[int, bytes]] = [{} for _ in range(LEVELS + 1)]
        nodes[LEVELS] = {index: _bucket_digest(bucket) for index, bucket in buckets.items()}
        for level in range(LEVELS - 1, -1, -1):
            below, kept, empty = nodes[level + 1], self._nodes[level + 1], _EMPTY[level + 1]
            for parent in {index // ARITY for index in below}:
                children = range(parent * ARITY, (parent + 1) * ARITY)
                nodes[level][parent] = _node([below.get(child) or kept.get(child, empty) for child in children])
        return Update(nodes[0].get(0, self.root), buckets, nodes)

    def apply(self, update: Update) -> None:
        """Makes this tree what `update` was computed for; valid only on the tree that computed it."""
        for index, bucket in update.buckets.items():
            if bucket:
                self._buckets[index] = bucket
            else:
                self._buckets.pop(index, None)
        for kept, changed, empty in zip(self._nodes, update.nodes, _EMPTY, strict=True):
            for index, node in changed.items():
                if node == empty:
                    kept.pop(index, None)
                else:
                    kept[index] = node

    def prove(self, key: bytes) -> Proof:
        """Evidence for the value of `key`, or for its absence: the same proof serves both."""
        index = _index(_key_hash(key))
        bucket = tuple(sorted(self._buckets.get(index, {}).items()))
        siblings = []
        for level in range(LEVELS, 0, -1):
            first = index - index % ARITY
            around = [self._digest(level, first + i) for i in range(ARITY) if first + i != index]
            siblings.append((around[0], around[1], around[2]))
            index //= ARITY
        return Proof(bucket, tuple(siblings))

    def level(self, level: int) -> tuple[bytes, ...]:
        """The digests of all nodes of a level; 0 is the root alone."""
        return tuple(self._digest(level, index) for index in range(ARITY**level))

    def _digest(self, level: int, index: int) -> bytes:
        return self._nodes[level].get(index, _EMPTY[level])


def place(key: bytes, level: int) -> int:
    """Under which node of `level` a key is found."""
    return _index(_key_hash(key)) // ARITY ** (LEVELS - level)


def empty_digest(level: int) -> bytes:
    """Of a node of `level` with no key below it."""
    return _EMPTY[level]


def root_above(nodes: tuple[bytes, ...]) -> bytes:
    """The root of the tree that has these nodes as one whole level."""
    while len(nodes) > 1:
        nodes = tuple(_node(list(nodes[first : first + ARITY])) for first in range(0, len(nodes), ARITY))
    return nodes[0]


def verify_proof(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> bool:
    """Whether `proof` shows that under `root` the key has this value (None: that it is absent).

    Every part has to be as long as a hash: hashing cannot tell two keys from a longer one that holds both, and a
    proof with such a key would show that a key is absent which is not.
    """
    key_hash = _key_hash(key)
    index = _index(key_hash)
    bucket = dict(proof.bucket)
    parts = [part for group in (*proof.bucket, *proof.siblings) for part in group]
    if len(proof.siblings) != LEVELS or any(len(part) != codec.DIGEST_BYTES for part in parts):
        return False
    if list(bucket) != sorted(bucket) or len(bucket) != len(proof.bucket):
        return False
    if bucket.get(key_hash) != (None if value is None else _value_hash(value)):
        return False
    node = _bucket_digest(bucket)
    for siblings in proof.siblings:
        children = list(siblings)
        children.insert(index % ARITY, node)
        node = _node(children)
        index //= ARITY
    return node == root
