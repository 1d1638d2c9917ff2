"""CT: the swap of the kernels' axes, its inverse, masks, and models that have no kernel."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from expunge.errors import ModelError
from expunge.masks.mask import random_mask
from expunge.methods.conv_transpose import ConvTranspose, square_kernels
from expunge.torch_utils.module_state import snapshot
from expunge.training.execute import execute
from small_problem import images, vectors


def test_every_kernel_is_transposed_and_twice_is_the_identity():
    run = images().run()
    before = snapshot(run.model)
    ConvTranspose().prepare(run)
    after = snapshot(run.model)
    for name, value in before.items():
        expected = value.clone()
        if name in ("0.weight", "3.weight"):
            for h in range(3):
                for w in range(3):
                    expected[:, :, h, w] = value[:, :, w, h]
            assert not torch.equal(expected, value)
            assert torch.allclose(after[name].flatten(1).norm(dim=1), value.flatten(1).norm(dim=1))
        assert torch.equal(after[name], expected), name
    assert run.memo["swapped"] == 6 * (4 * 3 + 4 * 4)
    ConvTranspose().prepare(run)
    assert all(torch.equal(v, before[n]) for n, v in snapshot(run.model).items())


def test_under_a_mask_only_free_pairs_are_swapped():
    mask = random_mask(images().model, 0.5, 0)
    run = images().run(mask=mask)
    before = images().model.get_parameter("0.weight")
    ConvTranspose().prepare(run)
    free = mask["0.weight"]
    changed = run.model.get_parameter("0.weight") != before
    diagonal = torch.eye(3, dtype=torch.bool)
    assert torch.equal(changed, free & free.transpose(2, 3) & ~diagonal) and changed.any()


def test_models_without_square_kernels_are_refused_and_symmetric_ones_warn():
    problem = vectors()
    with pytest.raises(ModelError, match="no square kernel"):
        execute(problem.model, problem.split, ConvTranspose(epochs=1), problem.task)
    strips = nn.Sequential(nn.Conv2d(1, 1, (3, 1)), nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, (2, 2)))
    assert list(square_kernels(strips)) == ["2.weight"]
    run = images().run()
    with torch.no_grad():
        for name in ("0.weight", "3.weight"):
            run.model.get_parameter(name).fill_(1.0)
    with pytest.warns(RuntimeWarning, match="swapped no weight"):
        ConvTranspose().prepare(run)
