"""A receipt that an earlier version wrote still verifies, bit for bit.

The files in `fixtures/receipt` were written by commit 053b5e2 on 2026-11-26, with the commands in `unlearned.json` and
`original.json` of that run: the digits CNN, SalUn on class 3, 2 epochs, seed 0.
"""

import json
import shutil
from pathlib import Path

import pytest

from expunge.errors import ExpungeError
from expunge.masks.mask_file import Mask
from expunge.receipts.canonical import canonical, exact, sha256
from expunge.receipts.issue import record_hash
from expunge.receipts.receipt import Receipt
from expunge.receipts.verify import verify

FILES = Path(__file__).parent / "fixtures/receipt"
DIGEST = "ceb8eef7f0c07a184a6f252c97bc3386b97d2cbcc94875dc8cda275918580bb1"


def checks(folder):
    return verify(
        folder / "unlearned.receipt.json",
        folder / "unlearned.safetensors",
        folder / "unlearned.json",
        original=folder / "original.safetensors",
        mask=Mask.load(folder / "mask.mask"),
    )


def test_every_check_of_an_old_receipt_holds():
    results = checks(FILES)
    assert [c for c in results if not c.ok] == []
    assert len(results) == 13


def test_the_old_receipt_has_the_same_bytes_and_hashes():
    receipt = Receipt.load(FILES / "unlearned.receipt.json")
    assert receipt.to_bytes() == (FILES / "unlearned.receipt.json").read_bytes()
    assert receipt.digest == DIGEST and receipt.id == "ul-Z24O557QYB5BQSTPEUWJPPBTQ2"
    assert record_hash(FILES / "unlearned.json") == receipt.statement["record"]


@pytest.mark.parametrize("name", ["unlearned.json", "unlearned.safetensors", "original.safetensors"])
def test_a_changed_file_fails(tmp_path, name):
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    data = bytearray((FILES / name).read_bytes())
    if name.endswith("json"):
        data = data.replace(b'"seed": 0', b'"seed": 1')
    else:
        data[-1] ^= 1
    (tmp_path / name).write_bytes(data)
    assert any(not c.ok for c in checks(tmp_path))


def test_the_canonical_form_is_that_of_rfc_8785():
    """Of the old files, as another implementation writes it. `test_canonical.py` compares made-up values."""
    rfc8785 = pytest.importorskip("rfc8785")
    receipt = Receipt.load(FILES / "unlearned.receipt.json")
    record = exact(json.loads((FILES / "unlearned.json").read_text(encoding="utf-8")))
    for value in (receipt.statement, receipt.envelope, record):
        assert rfc8785.dumps(value) == canonical(value)
    assert sha256(receipt.statement) == DIGEST
    with pytest.raises(ExpungeError):
        canonical({"a": 0.5})
