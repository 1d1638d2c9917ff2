"""Test receipts: their content, their signatures, and that every changed byte fails a check."""

import copy
import json
import random
import stat
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from expunge.errors import ExpungeError, MissingExtra
from expunge.masks.mask_file import Mask
from expunge.receipts.canonical import canonical, file_form, parse, sha256
from expunge.receipts.commitment import Proof, Secret
from expunge.receipts.issue import issue, record_hash
from expunge.receipts.kept import moved_outside, names_hash
from expunge.receipts.keys import (
    fingerprint,
    load_private,
    load_public,
    make_key,
    public_bytes,
    read_passphrase,
    signed_by,
)
from expunge.receipts.receipt import STATEMENT, Receipt
from expunge.receipts.signing import signed
from expunge.receipts.verify import verify
from expunge.records.hashing import load_weights, mask_hash
from expunge.records.record import Record

SALT = bytes(range(32))
IDS = [f"person-{i}" for i in range(7)]
MACHINE = {
    "system": "Linux",
    "cores": 2,
    "load": 0.25,
    "python": "3.12.1",
    "torch": "2.13.0",
    "expunge": "0.1.0",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Make a run with its files, and two key pairs: "mine" and "other"."""
    folder = tmp_path_factory.mktemp("receipt")
    torch.manual_seed(0)
    before, after = nn.Linear(3, 2), nn.Linear(3, 2)
    mask = {
        "weight": torch.tensor([[True, False, True], [False, True, True]]),
        "bias": torch.tensor([True, False]),
    }
    with torch.no_grad():
        for name, p in after.named_parameters():
            p.copy_(torch.where(mask[name], p, dict(before.named_parameters())[name]))
    save_file(before.state_dict(), folder / "before.safetensors")
    save_file(after.state_dict(), folder / "after.safetensors")
    record = Record(
        "unlearn",
        "salun",
        {"lr": 0.01, "epochs": 10, "density": 0.5},
        seed=3,
        machine=MACHINE,
        split={"hash": "5" * 64},
        scores={"UA": 98.7},
        seconds=1.5,
    )
    record.save(folder / "record.json")
    for name in ("mine", "other"):
        make_key(folder / name)
    receipt, secret = issue(
        record, IDS, before=before, after=after, mask=mask, salt=SALT, key=folder / "mine"
    )
    receipt.save(folder / "receipt.json")
    signed(receipt, None).save(folder / "unsigned.json")
    secret.save(folder / "secret.json")
    return {
        "folder": folder,
        "before": before,
        "after": after,
        "mask": mask,
        "record": record,
        "receipt": receipt,
        "secret": secret,
    }


def outcome(checks):
    return {c.name: c.ok for c in checks}


def holds(checks):
    return bool(checks) and all(c.ok for c in checks)


# content of a receipt


def test_everything_given_everything_holds(world):
    f = world["folder"]
    checks = verify(
        f / "receipt.json",
        f / "after.safetensors",
        f / "record.json",
        "person-3",
        f / "mine.pub",
        original=f / "before.safetensors",
        mask=world["mask"],
        secret=Secret.load(f / "secret.json"),
    )
    assert holds(checks), checks
    assert [c.name for c in checks] == [
        "form",
        "digest",
        "id",
        "envelope digest",
        "statement",
        "envelope",
        "changed",
        "signature",
        "model",
        "original",
        "record",
        "mask",
        "secret",
        "split",
        "kept",
        "proof",
    ]


def test_the_statement_is_complete_and_without_floats(world):
    statement = world["receipt"].statement
    assert set(statement) == {*STATEMENT, "mask_names"}
    assert statement["settings"] == {"lr": "0.01", "epochs": 10, "density": "0.5"}
    assert statement["software"] == {"python": "3.12.1", "torch": "2.13.0", "expunge": "0.1.0"}
    assert statement["forget_count"] == 7 and statement["seed"] == 3 and statement["parent"] is None
    assert parse(canonical(statement)) == statement


def test_time_machine_and_key_are_outside_the_name(world):
    receipt = world["receipt"]
    assert receipt.envelope["machine"] == {"system": "Linux", "cores": 2, "load": "0.25"}
    again = signed(receipt, world["folder"] / "other")
    assert again.id == receipt.id and again.envelope["key"] != receipt.envelope["key"]
    assert not {"created", "machine", "key"} & set(receipt.statement)


def test_the_same_run_gets_the_same_name_and_another_run_another(world):
    def make(record, ids=IDS, salt=SALT):
        return issue(record, ids, before=world["before"], after=world["after"], salt=salt)[0].id

    record = world["record"]
    assert make(record) == make(record, IDS[::-1])
    other = Record(**{**record.__dict__, "seed": 4})
    assert len({make(record), make(other), make(record, IDS[:-1]), make(record, salt=None)}) == 4


def test_no_forgotten_id_and_no_salt_is_in_the_receipt_nor_an_id_in_the_secret(world):
    f = world["folder"]
    receipt, secret = (f / "receipt.json").read_text(), (f / "secret.json").read_text()
    assert not any(name in receipt or name in secret for name in IDS)
    assert world["secret"].salt not in receipt and "5" * 64 not in receipt  # a split's hash can be guessed
    assert stat.S_IMODE((f / "secret.json").stat().st_mode) == 0o600


def test_hashes_come_from_the_record_where_no_models_are_given():
    record = Record("unlearn", "salun", model={"hash_before": "a" * 64, "hash_after": "b" * 64}, machine={})
    receipt, secret = issue(record, ["1"])
    assert receipt.statement["model_before"] == "a" * 64 and secret.receipt == receipt.id
    assert holds(verify(receipt))
    with pytest.raises(ExpungeError) as caught:
        issue(Record("unlearn", "salun"), ["1"])
    assert len(caught.value.problems) == 2


def test_a_run_without_samples_has_no_commitment(world):
    receipt, secret = issue(world["record"], None, before=world["before"], after=world["after"])
    assert secret is None and receipt.statement["forget_commitment"] is None and holds(verify(receipt))
    proof = world["secret"].prove(IDS[0])
    assert outcome(verify(receipt, prove=proof))["proof"] is False
    assert outcome(verify(receipt, secret=world["secret"]))["secret"] is False


def test_a_chain_of_runs(world, tmp_path):
    first = world["receipt"]
    third = nn.Linear(3, 2)
    second, _ = issue(world["record"], ["x"], before=world["after"], after=third, parent=first)
    stray, _ = issue(world["record"], ["x"], before=third, after=world["before"], parent=first.id)
    with pytest.raises(ExpungeError, match="ended with another model"):
        issue(world["record"], ["x"], before=third, after=world["before"], parent=first)
    assert holds(verify(second, parent=first))
    assert holds(verify(second, parent=world["folder"] / "receipt.json"))
    assert not holds(verify(stray, parent=first)) and not holds(verify(first, parent=second))
    assert outcome(verify(second, parent=tmp_path / "missing"))["parent"] is False
    twin, _ = issue(world["record"], ["other"], before=world["before"], after=world["after"])  # ends alike
    assert not holds(verify(second, parent=twin))


def test_a_run_that_changed_nothing_proves_nothing(world):
    same = copy.deepcopy(world["before"])
    with pytest.raises(ExpungeError, match="did not change the model"):
        issue(world["record"], IDS, before=world["before"], after=same)
    statement = world["receipt"].statement
    forged = Receipt({**statement, "model_after": statement["model_before"]}, world["receipt"].envelope)
    checks = {c.name: c for c in verify(signed(forged, None))}
    assert not checks["changed"].ok and "removed nothing" in checks["changed"].message


# models, records, masks and proofs that do not belong to the receipt


@pytest.mark.parametrize("bit", range(0, 64, 7))
def test_any_bit_of_the_model_file(world, tmp_path, bit):
    data = bytearray((world["folder"] / "after.safetensors").read_bytes())
    data[-1 - bit // 8] ^= 1 << bit % 8
    (tmp_path / "m.safetensors").write_bytes(data)
    checks = verify(world["folder"] / "receipt.json", tmp_path / "m.safetensors")
    assert outcome(checks)["model"] is False and sum(not c.ok for c in checks) == 1


def test_a_swapped_model_or_an_unreadable_one(world, tmp_path):
    f = world["folder"]
    assert outcome(verify(f / "receipt.json", f / "before.safetensors"))["model"] is False
    assert outcome(verify(f / "receipt.json", original=f / "after.safetensors"))["original"] is False
    (tmp_path / "m.pt").write_bytes(b"no model")
    for path in (tmp_path / "m.pt", tmp_path / "missing.pt"):
        check = verify(f / "receipt.json", path)[-1]
        assert check.name == "model" and not check.ok and "could not be checked" in check.message


def test_every_byte_of_the_record_counts(world, tmp_path):
    path, data = tmp_path / "record.json", (world["folder"] / "record.json").read_bytes()
    value = json.loads(data)
    for at in range(0, len(data), 3):
        changed = bytearray(data)
        changed[at] ^= 1
        path.write_bytes(changed)
        try:
            same = repr(json.loads(changed)) == repr(value)  # another way to write the same record
        except ValueError:
            same = False
        assert (record_hash_or_none(path) == record_hash(world["record"])) == same


def record_hash_or_none(path):
    try:
        return record_hash(path)
    except ExpungeError:
        return None


def test_a_number_in_a_record_is_not_its_text(tmp_path):
    record = Record("unlearn", "salun", {"lr": 0.5}, created="", machine={})
    text = Record("unlearn", "salun", {"lr": "0.5"}, created="", machine={})
    assert record_hash(record) != record_hash(text)
    record.scores = {"класс": float("nan"), "π": 1e300}
    assert record_hash(record) == record_hash(record.save(tmp_path / "r.json"))


def test_another_mask_or_a_weight_moved_outside_it(world):
    f, mask = world["folder"], world["mask"]
    other = {**mask, "bias": ~mask["bias"]}
    assert outcome(verify(f / "receipt.json", mask=other))["mask"] is False and mask_hash(mask) != mask_hash(
        other
    )
    moved = {k: v.clone() for k, v in world["after"].state_dict().items()}
    moved["bias"][1] = -moved["bias"][1] if moved["bias"][1] else 1
    receipt, _ = issue(world["record"], IDS, before=world["before"], after=moved, mask=mask)
    checks = verify(receipt, moved, original=world["before"], mask=mask)
    assert {c.name for c in checks if not c.ok} == {"kept"} and "changed: 1" in checks[-1].message
    assert outcome(verify(receipt, moved, original={}, mask=mask))["kept"] is False


def test_proofs(world, tmp_path):
    f, secret = world["folder"], world["secret"]
    path = f / "receipt.json"
    for name in IDS:
        secret.prove(name).save(tmp_path / "proof.json")
        assert holds(verify(path, prove=Proof.load(tmp_path / "proof.json")))
    assert "secret is needed" in verify(path, prove="person-1")[-1].message
    assert not holds(verify(path, prove="stranger", secret=secret))
    elsewhere = Secret.of(IDS)
    assert not holds(verify(path, prove=elsewhere.prove("person-1")))
    assert outcome(verify(path, secret=elsewhere))["secret"] is False
    wrong = Record(**{**world["record"].__dict__, "split": {"hash": "6" * 64}})
    assert outcome(verify(path, record=wrong, secret=secret))["split"] is False
    assert outcome(verify(path, record=Record("unlearn", "x"), secret=secret))["split"] is False


# signatures


def test_known_answer_of_rfc_8032():
    public = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"  # section 7.1, test 3
    signature = (
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )
    assert signed_by(load_public(public), bytes.fromhex(signature), bytes.fromhex("af82"))
    assert not signed_by(load_public(public), bytes.fromhex(signature), bytes.fromhex("af83"))


def test_what_is_signed_is_the_prefix_and_the_digest(world):
    receipt, key = world["receipt"], load_public(world["folder"] / "mine.pub")
    message = b"expunge-receipt/v1\0" + bytes.fromhex(sha256(receipt.statement))
    statement = bytes.fromhex(receipt.signature["statement"])
    assert signed_by(key, statement, message) and not signed_by(key, statement, message[19:])


def test_a_pinned_key_and_the_one_in_the_receipt_say_different_things(world):
    f = world["folder"]

    def signature_check(**given):
        return {c.name: (c.ok, c.message) for c in verify(f / "receipt.json", **given)}["signature"]

    raw = load_public(f / "mine.pub")
    for key in (f / "mine.pub", raw, raw.hex()):
        ok, message = signature_check(public_key=key)
        assert ok and "the key you gave" in message and fingerprint(raw) in message
    ok, message = signature_check()
    assert ok and "carries itself" in message and "who signed" in message
    ok, message = signature_check(public_key=f / "other.pub")
    assert not ok and "not signed by the key you gave" in message


def test_a_forger_who_signs_again_fools_only_those_who_pin_no_key(world):
    f = world["folder"]
    forged = signed(
        Receipt({**world["receipt"].statement, "forget_count": 8}, world["receipt"].envelope), f / "other"
    )
    assert holds(verify(forged)) and not holds(verify(forged, public_key=f / "mine.pub"))
    # naming the right key in the envelope does not help
    renamed = Receipt(
        forged.statement, {**forged.envelope, "key": world["receipt"].envelope["key"]}, forged.signature
    )
    assert not holds(verify(renamed)) and not holds(verify(renamed, public_key=f / "mine.pub"))


def test_unsigned_says_so_and_a_signature_that_was_removed_is_missed(world):
    f = world["folder"]
    assert json.loads((f / "unsigned.json").read_text())["signature"] == "unsigned"
    checks = verify(f / "unsigned.json")
    assert holds(checks) and "unsigned" in checks[-1].message
    assert not holds(verify(f / "unsigned.json", public_key=f / "mine.pub"))
    stripped = Receipt(world["receipt"].statement, world["receipt"].envelope)
    assert not holds(verify(stripped)) and "removed" in verify(stripped)[-1].message
    keyless = Receipt(stripped.statement, {**stripped.envelope, "key": None}, world["receipt"].signature)
    assert not holds(verify(keyless))


def test_signatures_cannot_be_moved_between_parts_or_receipts(world):
    receipt = world["receipt"]
    swapped = {"statement": receipt.signature["envelope"], "envelope": receipt.signature["statement"]}
    assert not holds(verify(Receipt(receipt.statement, receipt.envelope, swapped)))
    other = signed(Receipt({**receipt.statement, "seed": 9}, receipt.envelope), world["folder"] / "mine")
    assert not holds(verify(Receipt(receipt.statement, other.envelope, other.signature)))
    lent = {"statement": receipt.signature["statement"], "envelope": other.signature["envelope"]}
    assert not holds(verify(Receipt(receipt.statement, other.envelope, lent)))
    mixed = Receipt(
        receipt.statement, {**receipt.envelope, "created": "2001-01-01T00:00:00+00:00"}, receipt.signature
    )
    assert not holds(verify(mixed, public_key=world["folder"] / "mine.pub"))


def test_keys_are_private_never_replaced_and_of_the_right_kind(world, tmp_path):
    f = world["folder"]
    assert stat.S_IMODE((f / "mine").stat().st_mode) == 0o600
    assert public_bytes(load_private(f / "mine")) == load_public(f / "mine.pub")
    before = (f / "mine").read_bytes()
    with pytest.raises(ExpungeError, match="not replaced"):
        make_key(f / "mine")
    make_key(tmp_path / "k")
    (tmp_path / "k.pub").unlink()
    with pytest.raises(ExpungeError, match="not replaced"):
        make_key(tmp_path / "k")
    assert (f / "mine").read_bytes() == before and not (tmp_path / "k.pub").exists()
    (tmp_path / "half.pub").write_text("a public key whose private one is elsewhere")
    with pytest.raises(ExpungeError, match="not replaced"):
        make_key(tmp_path / "half")
    assert not (tmp_path / "half").exists()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    curve = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ec").write_bytes(
        curve.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    )
    (tmp_path / "ec.pub").write_bytes(
        curve.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "locked").write_bytes(
        load_private(f / "mine").private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"x")
        )
    )
    for load, path in [
        (load_private, tmp_path / "ec"),
        (load_private, tmp_path / "locked"),
        (load_private, f / "mine.pub"),
        (load_private, tmp_path / "none"),
        (load_public, tmp_path / "ec.pub"),
        (load_public, f / "mine"),
        (load_public, b"short"),
    ]:
        with pytest.raises(ExpungeError):
            load(path)
    assert outcome(verify(f / "receipt.json", public_key=tmp_path / "none"))["signature"] is False


def test_a_key_may_be_locked_with_a_passphrase(world, tmp_path, monkeypatch):
    (tmp_path / "word").write_text("open sesame\nnot this\n")
    word = read_passphrase(tmp_path / "word")
    assert word == b"open sesame" and read_passphrase() is None
    make_key(tmp_path / "k", word)
    assert b"ENCRYPTED" in (tmp_path / "k").read_bytes()
    good = signed(world["receipt"], tmp_path / "k", word)
    assert holds(verify(good, public_key=tmp_path / "k.pub"))
    plain_key = world["folder"] / "mine"
    for path, tried, words in (
        (tmp_path / "k", None, "--passphrase-file, or in EXPUNGE_PASSPHRASE"),
        (tmp_path / "k", b"wrong", "cannot be read"),
        (plain_key, word, "not locked"),
    ):
        with pytest.raises(ExpungeError, match=words):
            load_private(path, tried)
    monkeypatch.setenv("EXPUNGE_PASSPHRASE", "open sesame")
    assert load_private(tmp_path / "k") and load_private(plain_key)  # the environment is for locked keys
    (tmp_path / "word").write_text("\n")
    for path in (tmp_path / "word", tmp_path / "none"):
        with pytest.raises(ExpungeError, match="passphrase"):
            read_passphrase(path)


def test_without_cryptography_all_but_the_signature_is_checked(world, monkeypatch):
    f = world["folder"]
    for name in [n for n in sys.modules if n.split(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtra, match=r"expunge\[sign\]"):
        signed(world["receipt"], f / "mine")
    with pytest.raises(MissingExtra):
        make_key(f / "new")
    assert holds(verify(f / "unsigned.json", f / "after.safetensors"))
    checks = verify(f / "receipt.json", f / "after.safetensors")
    assert [c.name for c in checks if not c.ok] == ["signature"] and "not checked" in checks[7].message


# tampering: every byte, every field


@pytest.mark.parametrize("bits", [2, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["receipt.json", "unsigned.json"])
def test_every_bit_of_the_file(world, name, bits):
    data = (world["folder"] / name).read_bytes()
    assert holds(verify(data))
    for at in range(len(data)):
        for bit in range(8) if bits == 8 else (0, at % 7 + 1):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            assert not holds(verify(bytes(changed))), (at, bit, data[max(0, at - 20) : at + 20])


@pytest.mark.parametrize("name", ["receipt.json", "unsigned.json"])
def test_every_truncation_and_every_lost_or_doubled_byte(world, name):
    data = (world["folder"] / name).read_bytes()
    for at in range(len(data)):
        assert not holds(verify(data[:at]))
        assert not holds(verify(data[:at] + data[at + 1 :])) and not holds(
            verify(data[:at] + data[at : at + 1] + data[at:])
        )


def rewritten(world, change):
    """Return the signed receipt after `change`, with every hash recomputed but without a new signature."""
    values = json.loads((world["folder"] / "receipt.json").read_bytes())
    change(values)
    receipt = Receipt.of(values)
    return receipt.to_bytes()


def places(value, path=()):
    """Yield the path of every entry of a JSON value, nested ones too."""
    yield from ([path] if path else [])
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


REPLACEMENTS = [None, True, 0, 1, 8, -1, "", "x", "0" * 64, "ul-" + "A" * 26, [], {}, ["x"], {"x": 1}]


@pytest.mark.parametrize("part", ["statement", "envelope"])
def test_every_field_by_someone_who_recomputes_the_hashes(world, part):
    honest = json.loads((world["folder"] / "receipt.json").read_bytes())
    tried = 0
    for path in places(honest[part]):
        for new in [*REPLACEMENTS, "missing", "doubled"]:

            def change(values, path=path, new=new):
                inside = at(values[part], path[:-1])
                if new == "missing":
                    del inside[path[-1]]
                elif new == "doubled":
                    inside[str(path[-1]) + "2"] = inside[path[-1]]
                else:
                    inside[path[-1]] = new

            if new == at(honest[part], path) and type(new) is type(at(honest[part], path)):
                continue
            assert not holds(verify(rewritten(world, change))), (path, new)
            tried += 1
    assert tried > 300 if part == "statement" else tried > 100


def test_every_field_of_the_file_itself(world):
    honest = json.loads((world["folder"] / "receipt.json").read_bytes())
    for path in places(honest):
        for new in REPLACEMENTS:
            values = json.loads(json.dumps(honest))
            inside = at(values, path[:-1])
            if repr(inside[path[-1]]) == repr(new):
                continue
            inside[path[-1]] = new
            assert not holds(verify(file_form(values))), (path, new)


def test_other_ways_to_write_the_same_receipt_are_refused(world):
    data = (world["folder"] / "receipt.json").read_bytes()
    value = json.loads(data)
    for other in (
        canonical(value),
        data + b"\n",
        b" " + data,
        data.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + data,
        json.dumps(value, indent=2).encode(),
        data.replace(b"salun", b"s\\u0061lun"),
        data.replace(b": 3", b": 3.0"),
        data.replace(b'"seed": 3', b'"seed": 3,\n  "seed": 3'),
    ):
        assert other != data and not holds(verify(other))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_edits(world, data):
    honest = (world["folder"] / "receipt.json").read_bytes()
    start = data.draw(st.integers(0, len(honest)))
    stop = data.draw(st.integers(start, min(len(honest), start + 40)))
    changed = honest[:start] + data.draw(st.binary(max_size=40)) + honest[stop:]
    assert holds(verify(changed)) == (changed == honest)


@given(st.binary(max_size=200))
def test_no_file_makes_verify_raise(data):
    assert not holds(verify(data))


@pytest.mark.parametrize(
    "values",
    [
        [],
        {},
        {"format": "expunge-receipt/v1"},
        {"format": "expunge-receipt/v2"},
        {
            "format": "expunge-receipt/v1",
            "id": 1,
            "sha256": 2,
            "statement": {},
            "envelope": {},
            "envelope_sha256": 3,
            "signature": "unsigned",
        },
        {
            "format": "expunge-receipt/v1",
            "id": 1,
            "sha256": 2,
            "statement": 0,
            "envelope": {},
            "envelope_sha256": 3,
            "signature": "unsigned",
        },
        {
            "format": "expunge-receipt/v1",
            "id": 1,
            "sha256": 2,
            "statement": {},
            "envelope": {},
            "envelope_sha256": 3,
            "signature": {"statement": 1, "envelope": 2},
        },
    ],
)
def test_things_that_are_no_receipt(values):
    assert not holds(verify(canonical(values)))
    assert not holds(verify(b"{" * 10_000)) and not holds(verify("no such file"))


def test_a_receipt_of_a_later_schema_is_not_judged(world):
    later = signed(
        Receipt({**world["receipt"].statement, "schema": 2}, world["receipt"].envelope),
        world["folder"] / "mine",
    )
    check = next(c for c in verify(later) if not c.ok)
    assert check.name == "statement" and "schema is 2" in check.message


@pytest.mark.parametrize(
    "part, change",
    [
        ("statement", {"extra": 1}),
        ("statement", {"seed": True}),
        ("statement", {"parent": "ul-short"}),
        ("statement", {"model_after": "A" * 64}),
        ("statement", {"forget_count": -1}),
        ("statement", {"kind": "other"}),
        ("statement", {"forget_commitment": None}),
        ("statement", {"mask": "0"}),
        ("envelope", {"extra": 1}),
        ("envelope", {"machine": 1}),
    ],
)
def test_what_is_no_receipt_is_not_made_one_by_a_good_signature(world, part, change):
    parts = {"statement": world["receipt"].statement, "envelope": world["receipt"].envelope}
    odd = signed(Receipt(**{**parts, part: {**parts[part], **change}}), world["folder"] / "mine")
    assert not outcome(verify(odd))[part] and not holds(verify(odd, public_key=world["folder"] / "mine.pub"))


def test_the_fingerprint_in_an_envelope_is_that_of_its_key(world):
    receipt = world["receipt"]
    key = {**receipt.envelope["key"], "fingerprint": "0" * 32}
    odd = Receipt(receipt.statement, {**receipt.envelope, "key": key}, receipt.signature)
    assert outcome(verify(odd))["envelope"] is False


def test_a_receipt_that_cannot_be_written_is_none(world):
    odd = Receipt({**world["receipt"].statement, "settings": {"lr": 0.5}}, world["receipt"].envelope)
    assert outcome(verify(odd)) == {"form": False}


def test_many_ids_take_little_room(world):
    ids = [str(i) for i in range(2000)]
    random.Random(0).shuffle(ids)
    receipt, secret = issue(world["record"], ids, before=world["before"], after=world["after"], salt=SALT)
    assert len(receipt.to_bytes()) < 4000 and len(secret.prove("1999").path) == 11
    assert holds(verify(receipt, prove="1999", secret=secret))


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_the_kept_parameters_of_a_file_with_a_prefix(tmp_path, prefix):
    before = {"a.weight": torch.zeros(2, 3), "weight": torch.zeros(3)}
    after = {**before, "a.weight": torch.tensor([[1.0, 0, 0], [0, 0, 0]])}
    for name, state in (("before", before), ("after", after)):
        save_file({prefix + k: v for k, v in state.items()}, tmp_path / f"{name}.safetensors")
    first, second = (load_weights(tmp_path / f"{name}.safetensors") for name in ("before", "after"))
    mask = Mask({k: torch.zeros_like(v, dtype=torch.bool) for k, v in before.items()})
    mask.metadata["names_in_checkpoint"] = json.dumps({k: prefix + k for k in before})
    assert moved_outside(first, second, mask) == 1
    mask["a.weight"][0, 0] = True
    assert moved_outside(first, second, mask) == 0
    mask["b.weight"] = torch.zeros(1, dtype=torch.bool)
    with pytest.raises(ExpungeError, match="no tensor for 1 of the 3 parameters"):
        moved_outside(first, second, mask)


def test_a_mask_cannot_say_that_a_moved_tensor_is_another_one():
    before = {"a.weight": torch.zeros(3), "b.weight": torch.zeros(3), "c.bias": torch.zeros(2)}
    after = {**before, "a.weight": torch.ones(3), "c.bias": torch.ones(2)}
    mask = Mask({k: torch.full_like(v, k == "c.bias", dtype=torch.bool) for k, v in before.items()})
    assert moved_outside(before, after, mask) == 3
    forged = Mask(mask, {"names_in_checkpoint": json.dumps({"a.weight": "b.weight"})})
    assert mask_hash(forged) == mask_hash(mask) and moved_outside(before, after, forged) == 3
    # a file with a prefix: only the mask says which tensor is which, and the receipt of the run states it
    first, second = ({f"model.{k}": v for k, v in state.items()} for state in (before, after))
    honest = {k: f"model.{k}" for k in before}
    swapped = {**honest, "a.weight": "model.c.bias", "c.bias": "model.a.weight"}
    doubled = {**honest, "a.weight": "model.b.weight"}
    good, bad, twice = (
        Mask(mask, {"names_in_checkpoint": json.dumps(n)}) for n in (honest, swapped, doubled)
    )
    assert moved_outside(first, second, good, names_hash(good)) == 3
    for wrong, stated, words in ((bad, names_hash(good), "other names"), (bad, None, "shapes"), (twice, None, "two parameters"),
                                 (Mask(mask), names_hash(good), "no tensor for 3")):  # fmt: skip
        with pytest.raises(ExpungeError, match=words):
            moved_outside(first, second, wrong, stated)


def test_a_receipt_states_the_names_of_its_mask(world):
    record, mask = world["record"], Mask(world["mask"])
    states = [{f"net.{k}": v for k, v in world[name].state_dict().items()} for name in ("before", "after")]
    mask.metadata["names_in_checkpoint"] = json.dumps({k: f"net.{k}" for k in mask})
    receipt, _ = issue(record, IDS, before=states[0], after=states[1], mask=mask)
    checks = verify(receipt, states[1], original=states[0], mask=mask)
    assert holds(checks) and checks[-1].message == "no parameter outside the mask has changed"
    assert outcome(verify(receipt, states[1], original=states[0], mask=dict(mask)))["kept"] is False
    # a receipt of an earlier version does not state them: it stays valid, and the check says so
    older = Receipt({k: v for k, v in receipt.statement.items() if k != "mask_names"}, receipt.envelope)
    checks = verify(older, states[1], original=states[0], mask=mask)
    assert holds(checks) and "only the mask file says" in checks[-1].message
    wrong = Receipt({**receipt.statement, "mask_names": "no hash"}, receipt.envelope)
    assert outcome(verify(wrong))["statement"] is False
