"""Adapters of peft on a base that was saved with its head: the base's own head is no second set of weights of the model."""

import copy

import pytest
import torch

peft = pytest.importorskip("peft", reason="peft is not installed; run make test-compat")
from torch import nn  # noqa: E402

from expunge import Classification, ModelError, Split, TensorData, execute, find  # noqa: E402
from expunge.models import build  # noqa: E402
from expunge.records.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from expunge.records.checkpoint_loading import load_into  # noqa: E402
from tiny_families import auto, tiny  # noqa: E402

SHAPE = (8,)
KINDS = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "PiSSA": {"init_lora_weights": "pissa"},
}


def tokens(count, seed=0):
    return torch.randint(4, 60, (count, *SHAPE), generator=torch.Generator().manual_seed(seed))


def base(folder):
    return auto("bert").from_pretrained(folder / "base")


def saved_adapter(folder, rate, **options):
    """Train an adapter, whose head is in `modules_to_save`, on a base with a head, and save it.

    A rate of 0 leaves the copy of the head exact.
    """
    torch.manual_seed(0)
    tiny("bert").save_pretrained(folder / "base")
    config = peft.LoraConfig(
        task_type="SEQ_CLS",
        r=2,
        target_modules=["query", "value"],
        **options,
    )
    model = peft.get_peft_model(base(folder), config)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], rate)
    for _ in range(2 if rate else 0):
        logits = model(tokens(8)).logits
        nn.functional.cross_entropy(logits, torch.arange(8) % 3).backward()
        optimizer.step()
    model.save_pretrained(folder / "adapter")
    return model.eval()


def split_of():
    y = torch.arange(24) % 3
    return Split.by_ids(TensorData(tokens(24, 1), y), TensorData(tokens(24, 2), y), ["0", "3"], validation=0)


def unlearned(model, split):
    return execute(model, split, find("gradient_ascent")(epochs=1, batch_size=8), Classification(3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_an_adapter_on_a_base_with_a_head_is_unlearned_and_loaded_by_peft(tmp_path, kind, rate):
    saved_adapter(tmp_path, rate, **KINDS[kind])
    model = build(f"peft:{tmp_path / 'adapter'}", num_classes=3, shape=SHAPE).eval()
    read = read_checkpoint(tmp_path / "adapter")
    load_into(model, read)
    heads = {n: p for n, p in model.named_parameters() if "classifier" in n and n.endswith("weight")}
    own, trained = (next(p for n, p in heads.items() if part in n) for part in ("original", "to_save"))
    correlation = torch.corrcoef(torch.stack([own.flatten(), trained.flatten()]))[0, 1]
    assert correlation > 0.99 and torch.equal(own, trained) == (rate == 0)
    result = unlearned(model, split_of())
    assert result.has_result and not any("second set" in note for note in result.notes)
    out = write_checkpoint(tmp_path / "out", result.model.state_dict(), like=read)
    loaded = peft.PeftModel.from_pretrained(base(tmp_path), out).eval()
    x = tokens(4)
    with torch.no_grad():
        assert torch.allclose(loaded(x).logits, result.model(x).logits, atol=1e-5)
        assert not torch.equal(loaded(x).logits, model(x).logits)
    assert not any("original_module" in name for name in read_checkpoint(out).state)


def test_a_copy_of_the_trained_head_beside_the_adapter_is_still_refused(tmp_path):
    """The control: a target network beside the adapted model is in its state."""
    model = saved_adapter(tmp_path, 1e-3)

    class WithTarget(nn.Module):
        def __init__(self):
            super().__init__()
            self.online = model
            self.target = copy.deepcopy(model.base_model.model.classifier.modules_to_save["default"])
            self.target.requires_grad_(False)

        def forward(self, x):
            return self.online(x).logits

    with pytest.raises(ModelError, match="second set of weights in 'target'"):
        unlearned(WithTarget(), split_of())
