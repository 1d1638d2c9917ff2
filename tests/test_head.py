"""Test that the head is the layer that produces the logits, seen in a forward pass, or that the user is asked."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from expunge import Classification, ModelError, Split
from expunge.audit.evaluation import evaluate
from expunge.audit.features import feature_audit
from expunge.methods._class_weight_masking import mask_class_weights
from expunge.methods.bias_shift import BiasShift
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.lb_hr import LBHR
from expunge.methods.nhle import NHLE
from expunge.methods.ts_bgrm import TSBGRM
from expunge.training.execute import execute

K = 3


class Net(nn.Module):
    """A network whose layers with K outputs are registered and combined in different ways."""

    def __init__(self, form):
        super().__init__()
        self.form = form
        if form == "registered first":
            self.fc = nn.Linear(8, K)
        self.body = nn.Linear(4, 8)
        if form == "hidden of K":
            self.narrow, self.wide = nn.Linear(8, K), nn.Linear(K, 8)
        if form == "early exits":
            self.exit1, self.exit2 = nn.Linear(8, K), nn.Linear(8, K)
        if form not in ("registered first", "only aux"):
            self.fc = nn.Linear(8, K)
        if form == "only aux":
            self.conv = nn.Conv1d(8, K, 1)
        if form not in ("early exits",):
            self.aux = nn.Linear(8, K)

    def forward(self, x):
        h = torch.relu(self.body(x))
        form = self.form
        if form == "hidden of K":
            h = torch.relu(self.wide(torch.relu(self.narrow(h))))
        if form == "early exits":
            self.exit1(h), self.exit2(h)
        if form == "only aux":
            return self.conv(h[:, :, None])[:, :, 0]
        logits = self.fc(h)
        if form == "aux called":
            self.aux(h)
        if form == "twin":
            return (logits + self.aux(h)) / 2
        if form == "sum in place":
            logits += self.aux(h)
            return logits
        if form == "tokens":
            return self.fc(torch.stack([h, 2 * h], 1))[:, 0]
        if form == "output":
            return SimpleNamespace(logits=logits, aux_logits=self.aux(h))
        if form == "log-softmax":
            return F.log_softmax(logits, 1)
        return logits / 2 if form == "temperature" else logits


@pytest.fixture(scope="module")
def split():
    torch.manual_seed(1)
    y = torch.arange(90) % K
    x = torch.randn(90, 4) + 3 * F.one_hot(y, 4)
    return Split.by_class((x[:60], y[:60]), (x[60:], y[60:]), forget=1)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net


FOUND = [
    "aux", "aux called", "registered first", "hidden of K", "early exits", "tokens", "output", "log-softmax", "temperature",
]  # fmt: skip
REFUSED = ["twin", "sum in place", "only aux"]


@pytest.mark.parametrize("form", FOUND)
def test_the_head_is_the_layer_that_produces_the_logits(net, split, form):
    """It was the last layer of that width in the order of registration: `aux` in most of these."""
    model, task = net(form), Classification(K)
    found = task.with_head(model, split.retain)
    assert found.head(model)[0] == "fc" and found == task
    # a head that takes one vector of every token has no features of a sample
    assert task.has_head(model, split.retain) == (form != "tokens")
    if form == "tokens":
        return
    features, logits = found.with_features(model, split.retain.data.x[:5])
    assert (
        torch.allclose(model.fc(features).softmax(1), logits.softmax(1), atol=1e-6) or form == "temperature"
    )
    predictions = task.predict(model, split.retain, features=True)
    assert predictions.features.shape == (len(split.retain), 8)


@pytest.mark.parametrize(
    "form", ["aux", "aux called", "registered first", "hidden of K", "early exits", "output"]
)
@pytest.mark.parametrize(
    "method", [BiasShift(), NHLE(epochs=1), LBHR(epochs=1), TSBGRM(epochs=2, ascent_epochs=1)]
)
def test_methods_edit_the_head_that_counts(net, split, form, method):
    """`bias_shift` finished with UA 0, `ts_bgrm` ended with an IndexError, `lb_hr` changed `aux.bias` alone."""
    model = net(form)
    run = execute(model, split, method, Classification(K))
    assert run.ended != "unchanged" and not torch.equal(run.model.fc.bias, model.fc.bias)
    others = [n for n in ("aux", "exit1", "exit2", "narrow") if hasattr(model, n)]
    if not isinstance(method, NHLE):
        assert all(torch.equal(getattr(run.model, n).bias, getattr(model, n).bias) for n in others)
    if isinstance(method, (BiasShift, NHLE)):
        logits = Classification(K).predict(run.model, split.test_forgotten).logits
        assert not (logits.argmax(1) == 1).any()


def test_a_masked_class_is_never_predicted_again(net, split):
    """ "Never predicted again" was predicted for 15 of 45 samples: the rows of `aux` were masked."""
    model, task = net("aux called"), Classification(K)
    with pytest.raises(ModelError, match=r"2 linear layers with 3 outputs \('fc', 'aux'\).*head_name='aux'"):
        mask_class_weights(model, task, [1])
    assert (task.predict(model, split.retain).logits.argmax(1) == 1).any()
    mask_class_weights(model, task, [1], samples=split.retain)
    assert not (task.predict(model, split.forget).logits.argmax(1) == 1).any()


@pytest.mark.parametrize("form", REFUSED)
def test_an_unknown_head_is_refused_with_the_candidates(net, split, form):
    model, task = net(form), Classification(K)
    with pytest.raises(
        ModelError,
        match=r"no single linear layer with 3 outputs \(.*'aux'.*\) produces the logits.*head_name",
    ):
        execute(model, split, BiasShift(), task)
    assert not task.has_head(model, split.retain)
    # a method without a head runs
    assert execute(model, split, GradientAscent(epochs=1), task).ended == "finished"


def test_a_named_head_is_used_and_checked(net, split):
    twin = net("twin")
    run = execute(twin, split, BiasShift(), Classification(K, head_name="fc"))
    assert not torch.equal(run.model.fc.bias, twin.fc.bias) and torch.equal(run.model.aux.bias, twin.aux.bias)
    assert not (Classification(K).predict(run.model, split.forget).logits.argmax(1) == 1).any()
    with pytest.raises(ModelError, match="the logits do not depend on the linear layer 'aux'"):
        execute(net("aux called"), split, BiasShift(), Classification(K, head_name="aux"))
    with pytest.raises(
        ModelError, match="no linear layer 'body' with 3 outputs; those layers are 'fc', 'aux'"
    ):
        execute(net("aux"), split, BiasShift(), Classification(K, head_name="body"))


def test_two_layers_with_the_same_output_are_asked_for(net, split):
    model = net("aux called")
    model.aux.load_state_dict(model.fc.state_dict())
    # the memory of the logits is that of `fc`
    assert Classification(K).with_head(model, split.retain).head(model)[0] == "fc"
    model.form = "twin"
    with pytest.raises(ModelError, match="more than one of them does"):
        Classification(K).with_head(model, split.retain)


def test_the_strong_audit_reads_the_features_of_the_head(net, split):
    model = net("hidden of K")
    figures = feature_audit({"unlearned": model}, split, Classification(K))
    assert "probe_forgotten" in figures


def test_one_layer_needs_no_forward_pass():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, K))
    assert Classification(K).head(model)[0] == "2"
    with pytest.raises(ModelError, match="no linear layer with 5 outputs"):
        Classification(5).head(model)


@pytest.mark.parametrize("how", ["torch.compile", "in place"])
def test_the_head_of_a_compiled_model_is_found(classifier, how):
    """Hooks inside a compiled model do not run, and the head is seen by hooks."""
    plain = copy.deepcopy(classifier.model)
    model = copy.deepcopy(classifier.model)
    samples = classifier.by_class.test
    task = Classification(10)
    if how == "in place":
        model.compile(backend="eager")
    else:
        model = torch.compile(model, backend="eager")
    # compiled before the hooks are there
    task.predict(model, samples)
    name, _ = task.with_head(model, samples).head(model)
    assert name.removeprefix("_orig_mod.") == task.with_head(plain, samples).head(plain)[0]
    compiled, usual = (task.predict(m, samples, features=True) for m in (model, plain))
    assert torch.equal(compiled.features, usual.features)
    method = BiasShift()
    assert (
        execute(model, classifier.by_class, method, task).ended
        == execute(plain, classifier.by_class, method, task).ended
    )


def test_an_audit_without_forgotten_test_samples_knows_the_head(split):
    """The test samples of the forgotten classes are empty, and a layer beside the head has as many outputs."""
    net = Net("aux")
    at_random = Split.random(
        (split.train.data.x, split.train.data.labels), (split.test.data.x, split.test.data.labels), 0.1
    )
    result = evaluate(net, at_random, Classification(K))
    assert result.test_forgotten.features is not None and not len(result.test_forgotten.labels)
