"""Masks of SalUn's code: int64 zeros and ones under its own names."""

import pytest
import torch

from expunge import MaskError
from expunge.masks import mask_for_model
from expunge.masks.mask import random_mask
from expunge.models import build


def salun_name(name):
    for n in range(4):
        name = name.replace(f"stages.{n}.", f"layer{n + 1}.")
    return name.replace("shortcut.", "downsample.")


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_mask_of_another_program(tmp_path, dtype, prefix):
    model = build("resnet20", num_classes=10)
    mask = random_mask(model, 0.5)
    torch.save({prefix + salun_name(n): m.to(dtype) for n, m in mask.items()}, tmp_path / "with_0.5.pt")
    read = mask_for_model(tmp_path / "with_0.5.pt", model)
    assert read.keys() == mask.keys() and all(torch.equal(read[n], m) for n, m in mask.items())
    assert read.density == 0.5


@pytest.mark.parametrize(
    "value, words", [(2, "no mask of zeros and ones"), (0.5, "no mask of zeros and ones")]
)
def test_other_numbers_are_refused(tmp_path, value, words):
    model = build("mlp", num_classes=3, shape=(1, 2, 2))
    content = {n: torch.full(p.shape, value) for n, p in model.named_parameters()}
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(MaskError, match=words):
        mask_for_model(tmp_path / "m.pt", model)


def test_masks_of_other_models_are_refused(tmp_path):
    torch.save({"a": torch.ones(2, dtype=torch.int64)}, tmp_path / "m.pt")
    with pytest.raises(MaskError, match="lacks"):
        mask_for_model(tmp_path / "m.pt", build("mlp", num_classes=3, shape=(1, 2, 2)))
