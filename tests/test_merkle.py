"""Test the commitment: against a literal Merkle tree, and against every kind of forged proof."""

import hashlib
import hmac
import json
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.errors import ExpungeError
from expunge.receipts.commitment import Proof, Secret
from expunge.receipts.merkle import leaf, leaf_salt, root, root_from_path, siblings

SALT = bytes(range(32))


def slow_top(leaves):
    """RFC 6962, section 2.1: split at the largest power of two below n."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + slow_top(leaves[:k]) + slow_top(leaves[k:])).digest()


def slow_commitment(ids):
    leaves = []
    for name in ids:
        id_salt = hmac.new(SALT, b"expunge-leaf-salt/v1\0" + name.encode(), hashlib.sha256).digest()
        leaves.append(
            hashlib.sha256(b"\x00" + hmac.new(id_salt, name.encode(), hashlib.sha256).digest()).digest()
        )
    return hashlib.sha256(b"\x02" + len(leaves).to_bytes(8, "big") + slow_top(sorted(leaves))).hexdigest()


@pytest.mark.parametrize("n", [*range(1, 34), 100])
def test_every_id_of_every_size_has_a_proof_and_the_root_is_the_literal_one(n):
    ids = [f"user-{i}" for i in range(n)]
    secret = Secret.of(ids, SALT)
    assert secret.commitment == slow_commitment(ids)
    for name in ids:
        proof = secret.prove(name)
        assert proof.holds(secret.commitment, n)
        assert not proof.holds(secret.commitment, n + 1)  # the number is part of the commitment


def test_order_does_not_show():
    assert Secret.of(["a", "b", "c"], SALT) == Secret.of(["c", "a", "b"], SALT)


def test_fresh_salts_make_equal_sets_unlinkable():
    assert Secret.of(["a"]).commitment != Secret.of(["a"]).commitment


def test_a_proof_for_one_id_is_none_for_another():
    secret = Secret.of([str(i) for i in range(9)], SALT)
    proof = secret.prove("3")
    for other in ("4", "", "3 ", "33"):
        assert not Proof(other, proof.salt, proof.index, proof.path).holds(secret.commitment, 9)
    with pytest.raises(ExpungeError, match="not among"):
        secret.prove("9")


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.data())
def test_any_change_of_a_proof_breaks_it(n, data):
    secret = Secret.of([str(i) for i in range(n)], SALT)
    proof = secret.prove(str(data.draw(st.integers(0, n - 1))))
    hashes = [proof.salt, *proof.path]
    which, bit = data.draw(st.integers(0, len(hashes) - 1)), data.draw(st.integers(0, 255))
    hashes[which] = f"{int(hashes[which], 16) ^ (1 << bit):064x}"
    assert not Proof(proof.name, hashes[0], proof.index, hashes[1:]).holds(secret.commitment, n)
    for index in {proof.index + 1, proof.index - 1, -1, n, data.draw(st.integers(-5, 50))} - {proof.index}:
        assert not Proof(proof.name, proof.salt, index, proof.path).holds(secret.commitment, n)
    assert not Proof(proof.name, proof.salt, proof.index, [*proof.path, proof.salt]).holds(
        secret.commitment, n
    )
    if proof.path:
        assert not Proof(proof.name, proof.salt, proof.index, proof.path[:-1]).holds(secret.commitment, n)


def test_a_proof_shows_no_salt_but_its_own_and_no_other_id():
    secret = Secret.of(["ann", "bob", "cy"], SALT)
    proof = secret.prove("ann")
    shown = json.dumps([proof.name, proof.salt, proof.path])
    assert secret.salt not in shown and "bob" not in shown
    # the salt of ann does not help to test the id bob: the leaf of bob has another salt
    guess = leaf(bytes.fromhex(proof.salt), "bob").hex()
    assert guess not in secret.leaves
    assert leaf(leaf_salt(SALT, "bob"), "bob").hex() in secret.leaves


def test_a_node_cannot_be_passed_off_as_a_leaf():
    leaves = sorted(hashlib.sha256(bytes([i])).digest() for i in range(4))
    node = hashlib.sha256(b"\x01" + leaves[0] + leaves[1]).digest()
    assert root_from_path(leaves[0], 0, 4, siblings(leaves, 0)) == root(leaves)
    assert root_from_path(node, 0, 2, [hashlib.sha256(b"\x01" + leaves[2] + leaves[3]).digest()]) != root(
        leaves
    )


def test_doubling_the_last_leaf_changes_the_root():
    leaves = [bytes([i]) * 32 for i in range(3)]
    assert root(leaves) != root([*leaves, leaves[-1]])


def test_unicode_forms_of_one_id_are_one_id():
    secret = Secret.of(["Jos\u00e9", "x"], SALT)
    assert secret.prove("Jose\u0301").holds(secret.commitment, 2)
    with pytest.raises(ExpungeError, match="1 of them different"):
        Secret.of(["Jos\u00e9", "Jose\u0301"])


@pytest.mark.parametrize("ids", [[], ["a", "a"]])
def test_sets_that_cannot_be_committed_to(ids):
    with pytest.raises(ExpungeError, match="each id once"):
        Secret.of(ids)


def test_files(tmp_path):
    secret = Secret.of(["a", "b"], SALT)
    secret.save(tmp_path / "s.json")
    assert stat.S_IMODE((tmp_path / "s.json").stat().st_mode) == 0o600
    assert Secret.load(tmp_path / "s.json") == secret
    with pytest.raises(ExpungeError, match="not replaced"):
        Secret.of(["c"]).save(tmp_path / "s.json")
    assert Secret.load(tmp_path / "s.json") == secret and len(list(tmp_path.iterdir())) == 1
    proof = secret.prove("a")
    proof.save(tmp_path / "p.json")
    assert Proof.load(tmp_path / "p.json") == proof


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("salt"),
        lambda v: v.update(salt="00"),
        lambda v: v.update(path=["zz"]),
        lambda v: v.update(index="1"),
        lambda v: v.update(index=True),
        lambda v: v.update(format="other"),
        lambda v: v.update(more=1),
    ],
)
def test_broken_proof_files_are_refused(tmp_path, change):
    Secret.of(["a", "b"], SALT).prove("a").save(tmp_path / "p.json")
    values = json.loads((tmp_path / "p.json").read_text())
    change(values)
    (tmp_path / "p.json").write_text(json.dumps(values))
    with pytest.raises(ExpungeError):
        Proof.load(tmp_path / "p.json")
