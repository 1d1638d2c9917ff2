"""A receipt of a project that is signed after its run: file, state and ledger change together."""

import shutil

import pytest

from expunge.cli import main
from expunge.receipts.keys import make_key
from expunge.receipts.ledger import Ledger
from expunge.receipts.receipt import Receipt
from project_office import content


@pytest.fixture
def with_key(answered, tmp_path):
    """An answered project whose receipts are not signed, and whose settings name a key since."""
    make_key(tmp_path / "key")
    toml = answered.path / "expunge.toml"
    lines = [line for line in toml.read_text().splitlines() if not line.startswith("sign_key")]
    toml.write_text("\n".join([f'sign_key = "{tmp_path / "key"}"', *lines]))
    Ledger(answered.path / "ledger.db").set_limits(keys=[tmp_path / "key.pub"])
    return answered


def test_a_receipt_signed_later_is_that_of_state_and_ledger(with_key, tmp_path, capsys, monkeypatch):
    ledger, key = Ledger(with_key.path / "ledger.db"), tmp_path / "key"
    file = with_key.path / "models" / "0001.receipt.json"
    before = ledger.request(1)
    assert before.missing[0].startswith("a signature") and before.proved
    monkeypatch.chdir(with_key.path)
    assert main(["sign", "models/0001.receipt.json", "--key", str(key)]) == 0
    said = capsys.readouterr().out
    after = ledger.request(1)
    assert f"request 1 is {after.state}" in said and "request 2" not in said
    assert after.signer and after.receipt == Receipt.load(file).id == before.receipt and after.proved
    assert not any("signature" in text for text in after.missing)
    assert ledger.request(2).missing[0].startswith("a signature")
    assert with_key.status(full=True).problems == ()
    assert main(["sign", str(file.with_name("0002.receipt.json")), "--key", str(key)]) == 0
    assert not ledger.request(2).missing[:1] or "signature" not in ledger.request(2).missing[0]
    assert with_key.status(full=True).problems == ()


def test_a_signed_copy_leaves_the_project_and_no_copy_replaces_a_receipt(with_key, tmp_path, capsys):
    file, key = with_key.path / "models" / "0001.receipt.json", str(tmp_path / "key")
    before = content(with_key.path)
    assert main(["sign", str(file), "--key", key, "--out", str(tmp_path / "copy.json")]) == 0
    assert Receipt.load(tmp_path / "copy.json").signature
    assert main(["sign", str(tmp_path / "copy.json"), "--key", key, "--out", str(file)]) == 2
    assert "Sign it there, without --out" in capsys.readouterr().err
    assert content(with_key.path) == before
    shutil.copy(file, tmp_path / "own.json")
    shutil.copy(file.with_name("0002.receipt.json"), file)
    assert main(["sign", str(file), "--key", key]) == 2
    assert "is not the receipt of its run" in capsys.readouterr().err
    shutil.copy(tmp_path / "own.json", file)
    # a project with another problem is not changed either
    shutil.copy(with_key.path / "models" / "0001.json", with_key.path / "models" / "0002.requests.json")
    before = content(with_key.path)
    assert main(["sign", str(file), "--key", key]) == 2
    assert content(with_key.path) == before


def test_a_key_that_the_ledger_does_not_know_signs_nothing(with_key, tmp_path, capsys):
    """It took the proof from a request that was proved, and exited with 0."""
    file, key = with_key.path / "models" / "0001.receipt.json", str(tmp_path / "key")
    assert main(["sign", str(file), "--key", key]) == 0
    make_key(tmp_path / "other")
    before = content(with_key.path)
    capsys.readouterr()
    assert main(["sign", str(file), "--key", str(tmp_path / "other")]) == 2
    err = capsys.readouterr().err
    own = Receipt.load(file).envelope["key"]["fingerprint"]
    assert "does not know the key" in err and f"sign with a key that it knows ({own})" in err
    assert content(with_key.path) == before
    Ledger(with_key.path / "ledger.db").set_limits(keys=[tmp_path / "key.pub", tmp_path / "other.pub"])
    assert main(["sign", str(file), "--key", str(tmp_path / "other")]) == 0
    assert not any("signature" in text for text in Ledger(with_key.path / "ledger.db").request(1).missing)


def test_a_ledger_without_keys_takes_any(answered, tmp_path):
    make_key(tmp_path / "other")
    file = answered.path / "models" / "0001.receipt.json"
    assert main(["sign", str(file), "--key", str(tmp_path / "other")]) == 0
    assert answered.status(full=True).problems == () and answered.status().requests[0].shown_state == "done"


def test_a_good_signature_by_another_key_is_not_replaced(answered, tmp_path, capsys):
    file = tmp_path / "own.receipt.json"
    shutil.copy(answered.path / "models" / "0001.receipt.json", file)
    make_key(tmp_path / "key")
    make_key(tmp_path / "other")
    assert main(["sign", str(file), "--key", str(tmp_path / "key")]) == 0
    assert main(["sign", str(file), "--key", str(tmp_path / "key")]) == 0, "the same key may sign again"
    before = file.read_bytes()
    for out in ([], ["--out", str(file)]):
        assert main(["sign", str(file), "--key", str(tmp_path / "other"), *out]) == 2
        assert "which would be lost" in capsys.readouterr().err
    assert file.read_bytes() == before
    unsigned = answered.path / "models" / "0002.receipt.json"
    assert main(["sign", str(unsigned), "--key", str(tmp_path / "other"), "--out", str(file)]) == 2
    assert (
        main(["sign", str(file), "--key", str(tmp_path / "other"), "--out", str(tmp_path / "new.json")]) == 0
    )
