"""RUM: the proxies and the entanglement by hand, the parts, and what each part sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.methods._hardness import entanglement, memorisation, symmetric_divergence
from expunge.methods.finetune import FineTune
from expunge.methods.rum import RUM
from expunge.torch_utils.module_state import snapshot
from expunge.training.execute import execute
from small_problem import vectors

SCORES = torch.tensor([0.3, 0.1, 0.9, 0.5, 0.2, 0.8, 0.7, 0.0, 0.6, 0.4])


def same(a, b):
    return all(torch.equal(v, b[n]) for n, v in a.items())


def test_divergence_by_hand():
    p, q = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]]), torch.tensor([[0.1, 0.2, 0.7], [1.0, 0.0, 0.0]])
    expected = 0.6 * torch.tensor(7.0).log()
    assert symmetric_divergence(p, q).tolist() == pytest.approx([expected.item(), 0], abs=1e-6)
    assert torch.equal(symmetric_divergence(p, q), symmetric_divergence(q, p))


def test_entanglement_by_hand_and_its_invariances():
    retain, forget = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 4.0], [1.0, 6.0]])
    # spreads 1 and 1; the means are 5 apart, so each is 2.5 from the middle
    assert entanglement(retain, forget) == pytest.approx(2 / 6.25)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    assert entanglement(3 * retain @ turn, 3 * forget @ turn) == pytest.approx(2 / 6.25, rel=1e-5)
    assert entanglement(retain, retain) == float("inf")


def test_parts_are_thirds_by_ascending_score():
    run = vectors(random=True).run()
    for released in (False, True):
        parts = dict(RUM(as_released=released).parts(run, SCORES))
        rows = [[7, 1, 4, 0], [9, 3, 8], [6, 5, 2]]
        for (name, split), expected in zip(parts.items(), rows, strict=True):
            assert split.forget.index.tolist() == run.split.forget.index[expected].sort().values.tolist(), (
                name
            )
        later = [len(s.retain) - len(run.split.retain) for s in parts.values()]
        # as released, the parts that are still to be forgotten are trained on
        assert later == ([6, 3, 0] if released else [0, 0, 0])


def test_proxies():
    run = vectors(random=True).run()
    logits = run.task.predict(run.model, run.split.forget).logits
    p = logits.softmax(1)[torch.arange(len(logits)), run.split.forget.labels]
    assert torch.allclose(memorisation(run, run.split.forget, "confidence"), 1 - p)
    before = snapshot(run.model)
    held_out = memorisation(run, run.split.forget, "held_out")
    assert (held_out >= 0).all() and held_out.max() > 0 and same(before, snapshot(run.model))
    bare = vectors(random=True).run()
    bare.split = replace(run.split, validation=run.split.validation.take(slice(0)))
    with pytest.warns(RuntimeWarning, match="no samples that the original never saw"):
        assert torch.allclose(memorisation(bare, run.split.forget, "held_out"), 1 - p)


def test_one_part_equals_its_method_and_the_request_is_printed_once(capsys):
    model, split, task = vectors(random=True)
    method = RUM(middle="nothing", high="finetune", high_lr=0.05)
    run = execute(model, split, method, task, seed=3)
    printed = capsys.readouterr().err
    assert (
        printed.startswith("rum: 10 forget samples; memorisation (held_out) is") and "entanglement" in printed
    )
    # fine-tuning sees the retain set alone, so it is the same for any part
    steps = FineTune(lr=0.05)
    part = next(s for n, s in method.parts(run, SCORES) if n == "high")
    adapted = replace(steps, **steps.adapted(replace(run, split=part)))
    assert same(snapshot(run.model), snapshot(execute(model, split, adapted, task, seed=3).model))
    assert {p: d["samples"] for p, d in run.memo["parts"].items()} == {"low": 4, "middle": 3, "high": 3}
    execute(model, split, method, task, seed=3)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": "rum"}, "split its part again"),
        ({"high": "retrain"}, "fresh weights"),
        ({"middle": "no_such"}, "no_such"),
        ({"middle": "nothing", "high": "nothing"}, "at least one"),
    ],
)
def test_wrong_parts_are_refused(settings, message):
    model, split, task = vectors(random=True)
    with pytest.raises(ExpungeError, match=message):
        execute(model, split, RUM(**settings), task)


def test_trials_print_how_hard_the_request_is(capsys):
    run = vectors(random=True).run()
    assert RUM().adapted(run) == {}
    assert capsys.readouterr().err.startswith("rum: 10 forget samples; memorisation (held_out) is")
