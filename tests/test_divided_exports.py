"""Exports for libraries that divide tensors otherwise than the model: verify says what to verify instead."""

import pytest
import torch
from PIL import Image

from expunge import Project
from expunge.cli import main
from expunge.projects.export import export_model
from expunge.projects.settings import checked
from expunge.receipts.verify import verify
from expunge.records.checkpoint import Checkpoint, read_checkpoint
from expunge.records.model_names import stored_name, stored_text
from tiny_families import auto, tiny

pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture
def data(tmp_path):
    for name, shade in (("cat", 0), ("dog", 120), ("owl", 240)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(8):
            Image.new("RGB", (32, 32), (shade, 20 * k, 0)).save(tmp_path / "data" / name / f"{k}.png")
    return f"folder:{tmp_path / 'data'}?size=32"


@pytest.mark.filterwarnings("ignore")
def test_an_exported_adapter_names_the_model_to_verify(tmp_path, data, capsys):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(0)
    tiny("vit").save_pretrained(tmp_path / "base")
    base = auto("vit").from_pretrained(tmp_path / "base")
    targets = [n for n, _ in base.named_modules() if n.endswith("q_proj")]
    config = peft.LoraConfig(r=2, target_modules=targets, modules_to_save=["classifier"])
    adapter = peft.get_peft_model(base, config)
    with torch.no_grad():
        for parameter in adapter.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    adapter.save_pretrained(tmp_path / "adapter")
    values = {
        "data": data, "model": f"peft:{tmp_path / 'adapter'}", "method": "random_label", "validation": 0.0, "trials": 0,
        "settings": {"epochs": 1, "lr": 0.05}, "max_loss": 100.0,
    }  # fmt: skip
    Project.create(tmp_path / "project", checked(values), tmp_path / "adapter")
    Project(tmp_path / "project").forget(ids=["cat/0.png", "dog/1.png"], subject="case 1")
    said = []
    out, paper = export_model(tmp_path / "project", tmp_path / "out", say=said.append)
    assert any("can only be verified with" in text for text in said)
    assert peft.PeftModel.from_pretrained(auto("vit").from_pretrained(tmp_path / "base"), out)
    failed = {c.name: c.message for c in verify(paper, model=out) if not c.ok}
    assert list(failed) == ["model"] and "verify models/0001.safetensors of the project" in failed["model"]
    assert main(["verify", str(paper), "--model", str(out)]) == 1
    assert "verify models/0001.safetensors of the project" in capsys.readouterr().out
    # which works
    stored = tmp_path / "project" / "models" / "0001.safetensors"
    assert all(c.ok for c in verify(tmp_path / "project" / "models" / "0001.receipt.json", model=stored))
    # an output whose input was such an export is a file of its own
    assert stored_name(read_checkpoint(out)) == "0001.safetensors"


def test_only_a_plain_name_is_shown(tmp_path):
    def name(metadata):
        return stored_name(Checkpoint(state={}, path=tmp_path, format="pt", metadata=metadata))

    assert name({"model_names": stored_text("0007.safetensors")}) == "0007.safetensors" and name({}) == ""
    for text in ("", "{}", "[]", "3", stored_text("../x"), stored_text("a b; rm"), '{"stored": 3}', "{"):
        assert name({"model_names": text}) == ""
