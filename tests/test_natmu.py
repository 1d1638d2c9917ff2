"""NatMU: the masks by hand, the choice of classes and partners, and the loss in its literal form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from expunge.errors import ExpungeError
from expunge.methods import natmu
from expunge.methods.natmu import NatMU, ramp_masks, wrong_classes
from small_problem import everything, gradients, images, vectors


@pytest.mark.parametrize(
    ("size", "delta", "mean"),
    [(32, 0, 0.4688), (32, -0.19, 0.3028), (32, -0.03, 0.4406), (32, -0.053, 0.4191), (64, 0.045, 0.5289)],
)
def test_means_of_the_masks_by_hand(size, delta, mean):
    masks = ramp_masks(size, size, delta)
    assert masks.shape == (4, size, size)
    assert masks.mean((1, 2)).tolist() == pytest.approx([mean] * 4, abs=1e-4)


def test_masks_are_ramps_that_fill_each_other():
    masks = ramp_masks(32, 32, 0)
    assert torch.allclose(masks[0] + masks[2], torch.tensor(15 / 16, dtype=torch.float64))
    assert torch.allclose(masks[1], masks[0].T) and torch.allclose(masks[3], masks[2].T)
    assert masks[0, :, 0].tolist() == [j / 16 for j in range(16)] + [(15 - j) / 16 for j in range(16)]
    assert not ramp_masks(6, 6, -1).any() and (ramp_masks(6, 6, 1) == 1).all()
    assert ramp_masks(5, 1, 0).shape == (4, 5, 1)


def test_classes_are_the_most_probable_wrong_ones_of_the_retain_set():
    logits = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    y, every = torch.tensor([1]), torch.arange(6)
    assert wrong_classes(logits, y, every).tolist() == [[0, 2, 3, 4]]
    assert wrong_classes(logits, y, torch.tensor([1, 2, 5])).tolist() == [[2, 5, 2, 5]]


@pytest.mark.parametrize("random", [False, True])
def test_hybrids_equal_their_literal_form(random):
    run, method = images(random).run(), NatMU(delta=0.1)
    method.prepare(run)
    split, hybrids, labels = run.split, run.memo["hybrids"], run.memo["labels"]
    assert hybrids.shape == (len(split.forget), 4, 3, 6, 6)
    forget, retain = everything(split.forget), everything(split.retain)
    logits, masks = run.model(forget.x), ramp_masks(6, 6, 0.1)
    for i in range(len(forget)):
        order = [k for k in logits[i].argsort(descending=True).tolist() if k != forget.y[i]]
        assert forget.y[i] not in labels[i] and labels[i].tolist() == [*order, order[0]]
        for j in range(4):
            partners = retain.x[retain.y == labels[i, j]]
            candidates = (255 * (masks[j] * forget.x[i] + (1 - masks[j]) * partners)).round()
            assert (candidates == hybrids[i, j]).flatten(1).all(1).any()


def test_partners_are_distinct_where_there_are_enough():
    run = images(random=True).run()
    NatMU(delta=-1.0).prepare(run)
    retain = everything(run.split.retain)
    pixels, used = (255 * retain.x).round(), []
    for i in range(len(run.split.forget)):
        for j in range(4):
            used.append(int((pixels == run.memo["hybrids"][i, j]).flatten(1).all(1).nonzero()[0]))
    counts = torch.tensor(used).bincount(minlength=len(retain))
    for k in range(4):
        of_class = counts[retain.y == k]
        # none is used again before every other one of its class
        assert of_class.max() - of_class.min() <= 1 and of_class.sum() == (run.memo["labels"] == k).sum()


def test_draws_of_other_sizes_go_on_where_the_last_one_ended():
    run = images(random=True).run()
    partners = natmu._Partners(run)
    members = partners.of_class[0]
    inputs = {int(i): run.split.retain.data.x[i] for i in members}
    drawn = torch.cat([partners.draw(torch.zeros(n, 4, dtype=torch.long)).flatten(0, 1) for n in (1, 2, 1)])
    wanted = [int(members[k % len(members)]) for k in range(16)]
    assert all(torch.equal(pixels, inputs[i]) for pixels, i in zip(drawn, wanted, strict=True))


def test_loss_equals_its_literal_form():
    run, method = images(random=True).run(), NatMU()
    method.prepare(run)
    forget, retain = everything(run.split.forget), everything(run.split.retain)
    loss = method.loss(run, forget.take(torch.tensor([3, 1])), retain)
    rows = [
        (run.memo["hybrids"][i, j].double() / 255, run.memo["labels"][i, j]) for i in (3, 1) for j in range(4)
    ]
    rows += list(zip(retain.x, retain.y, strict=True))
    total = sum(F.cross_entropy(run.model(x[None]), y[None]) for x, y in rows) / len(rows)
    ours, literal = gradients(loss, run.model), gradients(total, run.model)
    assert all(torch.allclose(ours[n], literal[n], atol=1e-9) for n in ours)


def test_other_inputs_are_refused():
    with pytest.raises(ExpungeError, match=r"needs images in \[0, 1\]"):
        NatMU().prepare(vectors().run())
