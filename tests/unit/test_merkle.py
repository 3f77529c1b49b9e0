"""The state tree: roots that depend on content alone, and proofs that cannot be bent."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger import bucket, codec, merkle
from ledger.merkle import Proof, Tree, verify_proof

KEYS = st.binary(min_size=1, max_size=6)
ROOT = "20de4e7793427e9d4e66db5d4dbcec520a332639c361c94bb52c5cd1af2b012c"  # of {a: 1, b: 2}
STATES = st.dictionaries(KEYS, st.binary(max_size=8), max_size=12)


def tree_of(state: dict[bytes, bytes]) -> Tree:
    tree = Tree()
    tree.apply(tree.compute(state))
    return tree


def colliding_keys() -> tuple[bytes, bytes]:
    """Two keys of one bucket."""
    seen: dict[bytes, bytes] = {}
    for number in range(10_000):
        key = b"%d" % number
        prefix = codec.digest(merkle.KEY_DOMAIN, key)[:2]
        if prefix in seen:
            return seen[prefix], key
        seen[prefix] = key
    raise AssertionError("no two keys share a bucket")


def test_the_empty_tree_keeps_no_node() -> None:
    tree = tree_of({b"a": b"1"})
    tree.apply(tree.compute({b"a": None}))
    assert tree.root == Tree().root
    assert not tree._buckets and not any(tree._nodes)
    assert tree_of({b"a": None}).root == tree.root  # type: ignore[dict-item]


def test_a_small_state_keeps_few_nodes() -> None:
    tree = tree_of({b"a": b"1", b"b": b"2"})
    assert sum(map(len, tree._nodes)) <= 2 * (merkle.LEVELS + 1)


def test_the_root_is_the_same_on_every_version() -> None:
    """Pinned: another root here is another chain format."""
    assert tree_of({b"a": b"1", b"b": b"2"}).root.hex() == ROOT


def test_computing_changes_nothing() -> None:
    tree = tree_of({b"a": b"1"})
    before = tree.root
    update = tree.compute({b"a": b"2", b"b": b"3"})
    assert tree.root == before != update.root
    tree.apply(update)
    assert tree.root == update.root == tree_of({b"a": b"2", b"b": b"3"}).root


def test_no_change_keeps_the_root() -> None:
    tree = tree_of({b"a": b"1"})
    assert tree.compute({}).root == tree.root


@settings(max_examples=40, deadline=None)
@given(STATES, STATES, st.sets(KEYS, max_size=4))
def test_steps_and_one_leap_give_one_root(first: dict, second: dict, removed: set) -> None:
    stepped = tree_of(first)
    stepped.apply(stepped.compute(second))
    stepped.apply(stepped.compute(dict.fromkeys(removed)))
    final = {key: value for key, value in {**first, **second}.items() if key not in removed}
    assert stepped.root == tree_of(final).root
    assert Tree(stepped._buckets).root == stepped.root
    for key in {*first, *second, *removed}:
        assert stepped.get(key) == final.get(key)


@settings(max_examples=40, deadline=None)
@given(STATES, KEYS, st.binary(max_size=8))
def test_a_proof_shows_what_is_so_and_nothing_else(state: dict, key: bytes, other: bytes) -> None:
    tree = tree_of(state)
    proof = tree.prove(key)
    value = state.get(key)
    assert verify_proof(tree.root, key, value, proof)
    if other != value:
        assert not verify_proof(tree.root, key, other, proof)
    if value is not None:
        assert not verify_proof(tree.root, key, None, proof)
    assert not verify_proof(bytes(32), key, value, proof)


def test_a_key_cannot_be_hidden_from_its_bucket() -> None:
    first, second = colliding_keys()
    tree = tree_of({first: b"1", second: b"2"})
    proof = tree.prove(first)
    content = bucket.entries(proof.bucket)
    assert len(content) == 2 and proof == tree.prove(second)
    assert verify_proof(tree.root, first, b"1", proof) and verify_proof(tree.root, second, b"2", proof)
    for name in content:
        without = replace(proof, bucket=bucket.change(proof.bucket, {name: None}))
        assert not any(verify_proof(tree.root, key, None, without) for key in (first, second))
    assert not verify_proof(tree.root, first, None, replace(proof, bucket=b""))
    assert not verify_proof(tree.root, first, None, tree_of({}).prove(first))


def test_a_bucket_is_packed_in_one_way_in_a_proof_too() -> None:
    """An attacker who could choose the root would still not find two contents with the same bytes, or one with two."""
    first, second = colliding_keys()
    proof = tree_of({first: b"1", second: b"2"}).prove(first)
    end = 4 + 2 * bucket.NAME_BYTES
    names, rest = proof.bucket[4:end], proof.bucket[end:]
    swapped = proof.bucket[:4] + names[bucket.NAME_BYTES :] + names[: bucket.NAME_BYTES] + rest
    doubled = proof.bucket[:4] + 2 * names[: bucket.NAME_BYTES] + rest
    for content in (swapped, doubled, proof.bucket + b"!", proof.bucket[:-1], bytes(4)):
        bent = replace(proof, bucket=content)
        root = root_of(bent, first)
        assert not any(verify_proof(root, first, value, bent) for value in (b"1", b"2", b"", None))
    assert verify_proof(root_of(proof, first), first, b"1", proof)  # by the same computation


def root_of(proof: Proof, key: bytes) -> bytes:
    """The root that `proof` leads to, whatever is in it."""
    index = int.from_bytes(codec.digest(merkle.KEY_DOMAIN, key)[:2], "big")
    node = codec.digest(merkle.BUCKET_DOMAIN, proof.bucket)
    for siblings in proof.siblings:
        index, place = divmod(index, 4)
        node = codec.digest(merkle.NODE_DOMAIN, siblings[: 32 * place] + node + siblings[32 * place :])
    return node


def test_a_node_is_taken_for_no_bucket_and_a_bucket_for_no_node() -> None:
    """A second preimage by another shape: the children of the lowest node as a bucket, one level higher."""
    tree = tree_of({b"a": b"1"})
    proof = tree.prove(b"a")
    index = int.from_bytes(codec.digest(merkle.KEY_DOMAIN, b"a")[:2], "big")
    children = list(tree.level(merkle.LEVELS)[index - index % 4 :][:4])
    assert not verify_proof(tree.root, b"a", b"1", Proof(b"".join(children), proof.siblings[1:]))
    assert codec.digest(merkle.NODE_DOMAIN, b"".join(children)) == tree.level(merkle.LEVELS - 1)[index // 4]
    assert codec.digest(merkle.BUCKET_DOMAIN, b"".join(children)) != tree.level(merkle.LEVELS - 1)[index // 4]


def test_a_proof_of_another_bucket_or_depth_does_not_hold() -> None:
    tree = tree_of({b"a": b"1"})
    assert not verify_proof(tree.root, b"a", None, tree.prove(b"b"))
    proof = tree.prove(b"a")
    longer = (*proof.siblings, proof.siblings[-1])
    for siblings in (proof.siblings[:-1], longer, (), proof.siblings[::-1]):
        assert not verify_proof(tree.root, b"a", b"1", Proof(proof.bucket, siblings))
    for wrong in (b"", proof.siblings[0][:-1], proof.siblings[0] + bytes(32), bytes(96)):
        assert not verify_proof(tree.root, b"a", b"1", Proof(proof.bucket, (wrong, *proof.siblings[1:])))


def test_a_copy_and_its_origin_go_separate_ways() -> None:
    tree = tree_of({b"a": b"1", b"b": b"2"})
    copy, root = tree.copy(), tree.root
    tree.apply(tree.compute({b"a": b"3"}))
    copy.apply(copy.compute({b"b": None}))
    assert (tree.get(b"a"), tree.get(b"b"), copy.get(b"a"), copy.get(b"b")) == (b"3", b"2", b"1", None)
    assert tree.root == tree_of({b"a": b"3", b"b": b"2"}).root
    assert copy.root == tree_of({b"a": b"1"}).root != root


def test_each_level_leads_to_the_root_and_stands_on_what_is_below() -> None:
    tree = tree_of({b"%d" % number: b"x" for number in range(200)})
    assert tree.level(0) == (tree.root,)
    for level in (1, 4, merkle.LEVELS):
        nodes = tree.level(level)
        assert len(nodes) == 4**level and merkle.root_above(nodes) == tree.root
        for index in (0, 1, len(nodes) - 1):
            assert merkle.digest_above(tree.below(level, index)) == nodes[index]
        empty = next((index for index in range(len(nodes)) if not any(tree.below(level, index))), None)
        assert empty is None or nodes[empty] == merkle.empty_digest(level)


def test_hashes_of_parts_of_one_size_are_the_canonical_ones() -> None:
    part = bytes(range(128))
    assert codec.digester("d", 128)(part) == codec.digester("d")(part) == codec.digest("d", part)
    assert codec.digester("d", 128)(part) != codec.digester("d", 127)(part)
