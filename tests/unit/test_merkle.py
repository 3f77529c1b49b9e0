"""The state tree: roots that depend on content alone, and proofs that cannot be bent."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import codec, merkle
from ledger.merkle import Proof, Tree, verify_proof

KEYS = st.binary(min_size=1, max_size=6)
ROOT = "fc91795301c26693863999bb41ef9054db8d927e311686c24472532d356049fa"  # of {a: 1, b: 2}
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
    assert len(proof.bucket) == 2
    assert verify_proof(tree.root, first, b"1", proof)
    without = Proof(tuple(pair for pair in proof.bucket if pair[0] != proof.bucket[0][0]), proof.siblings)
    assert not verify_proof(tree.root, first, None, without)
    assert not verify_proof(tree.root, second, None, without)
    doubled = Proof((*proof.bucket, proof.bucket[0]), proof.siblings)
    assert not verify_proof(tree.root, first, b"1", doubled)


def test_a_proof_of_another_bucket_or_depth_does_not_hold() -> None:
    tree = tree_of({b"a": b"1"})
    assert not verify_proof(tree.root, b"a", None, tree.prove(b"b"))
    proof = tree.prove(b"a")
    assert not verify_proof(tree.root, b"a", b"1", Proof(proof.bucket, proof.siblings[:-1]))
    assert not verify_proof(tree.root, b"a", b"1", Proof(proof.bucket, ()))


def test_two_keys_in_one_bucket_are_not_passed_off_as_one() -> None:
    """A key as long as both, with what hashing puts between them: the bucket's digest is the same."""
    one, two = colliding_keys()
    tree = tree_of({one: b"1", two: b"2"})
    proof = tree.prove(one)
    parts = [part for pair in proof.bucket for part in pair]
    for split in range(1, len(parts)):
        between = codec.DIGEST_BYTES.to_bytes(8, "big")
        bent = Proof(((between.join(parts[:split]), between.join(parts[split:])),), proof.siblings)
        assert merkle._bucket_digest(dict(bent.bucket)) == merkle._bucket_digest(dict(proof.bucket))
        assert not verify_proof(tree.root, one, None, bent) and not verify_proof(tree.root, two, None, bent)


def test_the_keys_of_a_bucket_have_one_order() -> None:
    one, two = colliding_keys()
    tree = tree_of({one: b"1", two: b"2"})
    proof = tree.prove(one)
    assert verify_proof(tree.root, one, b"1", proof)
    assert not verify_proof(tree.root, one, b"1", Proof(proof.bucket[::-1], proof.siblings))
