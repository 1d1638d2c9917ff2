"""Every family of models: load, one step of unlearning, save, load with the library it came from, same logits."""

import importlib

import pytest
import torch
from families import FAMILIES
from table import PAGE, page

from expunge import Classification, Split, execute
from expunge.methods.gradient_ascent import GradientAscent
from expunge.models import build
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_loading import load_into

TASK = Classification(3)
Y = torch.arange(24) % 3


def logits(model, x):
    with torch.no_grad():
        return TASK.logits(model.eval(), x)


def marked(family):
    return pytest.param(family, id=family.id, marks=[] if family.usual else pytest.mark.slow)


def require(family):
    for module in family.needs:
        try:
            importlib.import_module(module)
        # a torchvision for another torch raises RuntimeError
        except (ImportError, RuntimeError):
            pytest.skip(f"{module} is not installed; run make test-compat")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", [marked(f) for f in FAMILIES])
def test_load_unlearn_save_and_load_with_the_original_library(tmp_path, family):
    require(family)
    torch.manual_seed(0)
    case = family.make(tmp_path)
    spec = case.spec
    torch.manual_seed(1)
    model = build(spec, num_classes=3, shape=tuple(case.x.shape[1:])) if isinstance(spec, str) else spec()
    checkpoint = read_checkpoint(case.file)
    load_into(model, checkpoint)
    before = logits(case.original, case.x)
    assert before.isfinite().all() and torch.equal(logits(model, case.x), before)

    x = case.x
    split = Split.by_class((x[:18], Y[:18]), (x[18:], Y[18:]), [1], validation=0)
    method = GradientAscent(epochs=1, batch_size=8, max_drop=100.0, lr=1e-2, clip=1.0, batch_norm="freeze")
    run = execute(model, split, method, TASK)
    assert (run.step, run.ended) == (1, "finished")
    after = logits(run.model, x)
    assert after.isfinite().all() and not torch.equal(after, before)

    out = write_checkpoint(case.out, run.model.state_dict(), like=checkpoint)
    assert torch.equal(logits(case.load(out), x), after)
    # the input is as it was
    assert torch.equal(logits(case.load(case.file), x), before)


def test_the_table_of_the_documentation_is_that_of_the_families():
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text), "run python tests/compat/table.py --write"
    assert len(FAMILIES) >= 25 and len({f.id for f in FAMILIES}) == len(FAMILIES)
