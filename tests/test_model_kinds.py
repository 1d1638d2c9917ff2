"""Models of every kind: each is unlearned, or refused before the first step with every problem."""

import copy
import threading
import warnings
from collections import namedtuple

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from expunge import Classification, ExpungeError, ModelError, Split, SplitError, TensorData, audit, execute
from expunge.audit.relearning import relearning
from expunge.data.stream import StreamData
from expunge.masks.saliency import saliency_scores
from expunge.tasks.diffusion import Diffusion
from expunge.torch_utils.module_state import same_buffers, same_parameters
from expunge.training.registry import find
from expunge.training.run import Run
from expunge.training.training_checks import check_step

TASK = Classification(3)
SETTINGS = {"epochs": 1, "batch_size": 8, "max_drop": 100.0, "lr": 1e-3}
X, Y = torch.rand(72, 8, generator=torch.Generator().manual_seed(0)), torch.arange(72) % 3
TOKENS = torch.randint(0, 50, (72, 5), generator=torch.Generator().manual_seed(0))


def split_of(x=X, test=None):
    return Split.by_class((x[:60], Y[:60]), (x[60:] if test is None else test, Y[60:]), [1], validation=0.2)


def run(model, split=None, method="gradient_ascent", task=TASK):
    settings = {"alpha": 1.0} if method == "ssd" else SETTINGS
    return execute(model, split or split_of(), find(method)(**settings), task)


def mlp():
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3))


class Net(nn.Module):
    """An MLP whose outputs another function makes: `give(module, logits)`."""

    def __init__(self, give=lambda module, logits: logits):
        super().__init__()
        self.net, self.give = mlp(), give

    def forward(self, x):
        return self.give(self, self.net(x))


class Words(nn.Module):
    def __init__(self, sparse, bag):
        super().__init__()
        self.embedding = (nn.EmbeddingBag if bag else nn.Embedding)(50, 8, sparse=sparse)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        vectors = self.embedding(x)
        return self.head(vectors if vectors.ndim == 2 else vectors.mean(1))


Output = namedtuple("Output", ["logits", "aux"])


class Held:
    def __init__(self, **values):
        vars(self).update(values)


# ---- outputs

OUTPUTS = {
    "tuple": lambda m, z: (z, torch.ones(len(z), 4)),
    "features first": lambda m, z: (torch.ones(len(z), 4), z),
    "list": lambda m, z: [z],
    "dict with logits": lambda m, z: {"other": z * 0, "logits": z},
    "dict": lambda m, z: {"out": z, "features": torch.ones(len(z), 4)},
    "object": lambda m, z: Held(logits=z),
    "auxiliary outputs in training": lambda m, z: Output(z, z * 0) if m.training else z,
    "a dict in training": lambda m, z: {"logits": z} if m.training else z,
}


@pytest.mark.parametrize("form", OUTPUTS)
def test_outputs_that_hold_logits_are_those_logits(form):
    torch.manual_seed(0)
    model = Net(OUTPUTS[form])
    plain = Net()
    plain.load_state_dict(model.state_dict())
    assert same_parameters(run(model).model, run(plain).model)


BAD_OUTPUTS = {
    "two tensors": (lambda m, z: (z, z), "2 of its tensors have the shape of the logits"),
    "no tensor": (lambda m, z: None, "returns a NoneType"),
    "logits in a list": (lambda m, z: Held(logits=[z]), "none of its tensors"),
    "other shapes": (lambda m, z: (z[:, :2], z[:, None]), r"0: \(2, 2\), 1: \(2, 1, 3\)"),
    "classes": (lambda m, z: nn.functional.one_hot(z.argmax(1), 3), "torch.int64"),
    "complex": (lambda m, z: z.to(torch.cfloat), "real numbers"),
    "two in training": (lambda m, z: (z, z) if m.training else z, "in training mode, the model returns a tuple"),
    "fails in training": (lambda m, z: z.no if m.training else z, "fails in training mode"),
    "probabilities in eval": (lambda m, z: z if m.training else z.softmax(1), "probabilities in eval mode only"),
    "probabilities in training": (lambda m, z: z.softmax(1) if m.training else z, "in training mode only"),
    "fewer in training": (lambda m, z: z[:, :2] if m.training else z, r"\(2, 2\) in training mode and \(2, 3\)"),
    "NaN in training": (lambda m, z: z * torch.nan if m.training else z, "not finite in training mode"),
    "detached": (lambda m, z: z.detach(), "no gradient"),
    "no parameter": (lambda m, z: torch.zeros_like(z, requires_grad=True), "depends on no trained parameter"),
}  # fmt: skip


@pytest.mark.parametrize("form", BAD_OUTPUTS)
def test_outputs_without_clear_logits_are_refused_before_the_first_step(form):
    give, words = BAD_OUTPUTS[form]
    model = Net(give)
    before = copy.deepcopy(model)
    with pytest.raises(ModelError, match=words):
        run(model)
    assert same_parameters(model, before)


@pytest.mark.parametrize("method", ["gradient_ascent", "salun", "ssd"])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_forward_pass_without_gradients_is_refused(context, method):
    model = Net()
    model.forward = context()(model.forward)
    with pytest.raises(ModelError, match="no gradient"):
        run(model, method=method)


def test_the_outputs_of_a_diffusion_model_may_be_a_tuple():
    class Denoiser(nn.Module):
        def __init__(self, give):
            super().__init__()
            self.net, self.give = nn.Conv2d(1, 1, 3, padding=1), give

        def forward(self, x, t, y):
            return self.give(self.net(x))

    x, t = torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.long)
    task = Diffusion(3)
    for give in (lambda z: (z,), lambda z: {"out": z, "t": t}, lambda z: Held(sample=z)):
        model = Denoiser(give)
        assert torch.equal(task.predict(model, x, t, t), model.net(x))
    with pytest.raises(ModelError, match="2 of its tensors"):
        task.predict(Denoiser(lambda z: (z, z)), x, t, t)


# ---- parameters


@pytest.mark.parametrize("bag", [False, True])
@pytest.mark.parametrize("method", ["gradient_ascent", "salun", "ssd", "retrain"])
def test_sparse_embeddings_train_like_dense_ones(method, bag):
    torch.manual_seed(0)
    sparse, dense = Words(True, bag), Words(False, bag)
    dense.load_state_dict(sparse.state_dict())
    runs = [run(model, split_of(TOKENS), method) for model in (sparse, dense)]
    assert same_parameters(runs[0].model, runs[1].model)
    # the layer stays as the user made it
    assert sparse.embedding.sparse and runs[0].model.embedding.sparse
    scores = [saliency_scores(m, split_of(TOKENS).forget, TASK) for m in (sparse, dense)]
    assert all(torch.allclose(scores[0][n], scores[1][n]) for n in scores[0])


def test_sparse_gradients_of_other_layers_are_refused():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Parameter(torch.rand(50, 8)), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(nn.functional.embedding(x, self.table, sparse=True).mean(1))

    with pytest.raises(ModelError, match=r"1 parameters get sparse gradients \(first: \['table'\]\)"):
        run(Own(), split_of(TOKENS))


def quantized(static):
    from torch.ao import quantization

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not static:
            return nn.Sequential(nn.Linear(8, 8), quantization.quantize_dynamic(mlp(), {nn.Linear}))
        model = nn.Sequential(quantization.QuantStub(), mlp(), quantization.DeQuantStub()).eval()
        model.qconfig = quantization.get_default_qconfig("fbgemm")
        quantization.prepare(model, inplace=True)(X)
        return quantization.convert(model)


def with_parameter(value, trained=True):
    model = Net()
    model.other = nn.Parameter(value, requires_grad=trained)
    return model


def made_in_inference_mode():
    with torch.inference_mode():
        return mlp()


def traced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(torch.jit.trace(mlp(), X[:2]))


class Extra(Net):
    def get_extra_state(self):
        return {"seen": 3}

    def set_extra_state(self, state):
        pass


def with_lock():
    model = mlp()
    model.lock = threading.Lock()
    return model


KINDS = {
    "quantized in part": (lambda: quantized(False), r"2 modules are quantized \(first: \['1.0', '1.2'\]\)"),
    "quantized": (lambda: quantized(True), "4 modules are quantized"),
    "frozen": (lambda: mlp().requires_grad_(False), "no parameter requires a gradient"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(12), nn.Linear(12, 3)), "2 parameters have no shape yet"),
    "inference": (made_in_inference_mode, r"4 parameters were made in torch.inference_mode"),
    "complex": (lambda: with_parameter(torch.ones(2, dtype=torch.cfloat)), r"1 parameters are complex \(first: \['other'\]"),
    "sparse": (lambda: with_parameter(torch.eye(3).to_sparse()), "1 parameters are sparse"),
    "float8": (lambda: with_parameter(torch.ones(2).to(torch.float8_e4m3fn)), "8 bits, in which steps are lost"),
    "meta": (lambda: mlp().to("meta"), "4 parameters and buffers are on the meta device"),
    "jit": (traced, r"1 modules are compiled by torch.jit \(first: \['0'\]\)"),
    "extra state": (Extra, "get_extra_state of the model returns a dict"),
    "a lock": (with_lock, "cannot be copied"),
    "NaN": (lambda: with_parameter(torch.tensor(torch.nan)), "1 parameters hold NaN"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["gradient_ascent", "ssd"])
def test_models_that_cannot_be_trained_are_refused(kind, method):
    make, words = KINDS[kind]
    with pytest.raises(ExpungeError, match=words):
        run(make(), method=method)


GOOD = {
    "an inference copy": lambda: copy.deepcopy(made_in_inference_mode()),
    "compiled": lambda: torch.compile(mlp(), backend="eager"),
    "compiled in place": lambda: [m := mlp(), m.compile(backend="eager")][0],
    "weight_norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 12)), nn.Linear(12, 3)),
    "spectral_norm": lambda: nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(8, 12)), nn.Linear(12, 3)
    ),
    "orthogonal": lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(8, 12)), nn.Linear(12, 3)),
    "frozen backbone": lambda: nn.Sequential(nn.Linear(8, 12).requires_grad_(False), nn.Linear(12, 3)),
    "fx": lambda: torch.fx.symbolic_trace(mlp()),
    "DataParallel": lambda: nn.DataParallel(mlp()),
    "frozen float8": lambda: with_parameter(torch.ones(2).to(torch.float8_e4m3fn), False),
    "frozen integers": lambda: with_parameter(torch.ones(2, dtype=torch.int64), False),
    "batch norm": lambda: nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.Dropout(), nn.Linear(12, 3)),
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("method", ["gradient_ascent", "salun", "ssd"])
def test_models_that_can_be_trained_change_and_leave_the_original_alone(kind, method):
    torch.manual_seed(0)
    model = GOOD[kind]()
    before = copy.deepcopy(model)
    result = run(model, method=method)
    assert same_parameters(model, before) and same_buffers(model, before)
    assert result.ended == "finished" and not same_parameters(result.model, model)


@pytest.mark.parametrize("kind", ["batch norm", "spectral_norm"])
def test_the_check_of_a_step_changes_no_result(monkeypatch, kind):
    """Statistics and random state are those of a run without the check."""
    torch.manual_seed(0)
    model = GOOD[kind]()
    with_check = run(model).model
    monkeypatch.setattr("expunge.training.execute.check_step", lambda run, method: None)
    without = run(model).model
    assert same_parameters(with_check, without) and same_buffers(with_check, without)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_is_trained_with_a_warning(dtype):
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run(mlp().to(dtype), split_of(X.to(dtype)))
    assert result.ended == "finished"
    assert any("small steps are lost" in str(w.message) for w in caught) == (dtype != torch.float64)


@pytest.mark.parametrize("method", ["gradient_ascent", "salun", "ssd", "retrain"])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_call_without_gradients_gives_the_same_model(context, method):
    torch.manual_seed(0)
    model = mlp()
    usual = run(model, method=method).model
    with context():
        split = split_of(X.clone())
        inside = run(model, split, method=method).model
        scores = saliency_scores(model, split.forget, TASK)
        delay = relearning(model, split, TASK, goal=101.0, most=2)
    assert same_parameters(usual, inside) and len(delay["curve"]) == 3
    assert all(v.abs().sum() for v in scores.values())


def test_all_problems_are_listed_at_once():
    model = Extra()
    model.other = nn.Parameter(torch.tensor([torch.nan]))
    model.sparse = nn.Parameter(torch.eye(3).to_sparse())
    split = split_of(X.clone())
    # a split is checked when it is drawn; this sample is spoilt afterwards
    split.forget.data.x[5, 2] = torch.nan
    with pytest.raises(ModelError) as caught:
        run(model, split)
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    assert all(words in text for words in ("hold NaN", "are sparse", "get_extra_state", "1 sample ('5')"))


# ---- samples with NaN


def broken(count=1, value=torch.nan):
    x = X.clone()
    x[17 : 17 + count, 3] = value
    return x


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_samples_in_memory_with_nan_are_named_before_the_first_step(value):
    train = TensorData(broken(2, value)[:60], Y[:60], ids=[f"p{k}" for k in range(60)])
    with pytest.raises(SplitError, match=r"2 training samples hold NaN or infinity \(ids: \['p17', 'p18'\]"):
        Split.by_class(train, (X[60:], Y[60:]), [1], validation=0.2)
    train.x[17:19] = X[17:19]
    split = Split.by_class(train, (X[60:], Y[60:]), [1], validation=0.2)
    train.x[17:19, 3] = value
    with pytest.raises(ModelError, match=r"2 samples \('p17', 'p18'\) have NaN or infinity in the inputs"):
        run(mlp(), split)


def test_nan_in_validation_samples_of_the_test_set_is_named_before_the_first_step():
    test = TensorData(X[60:].clone(), Y[60:])
    split = Split.by_class((X[:60], Y[:60]), test, [1], validation=0.4, validation_from="test")
    position = int(split.validation.index[0])
    split.validation.data.x[position, 3] = torch.nan
    with pytest.raises(ModelError, match=rf"1 sample \('{position}'\) has NaN or infinity in the inputs"):
        run(mlp(), split)


def test_test_samples_and_labels_with_nan_are_named():
    split = split_of(test=X[60:].clone())
    split.test.data.x[2, 3] = torch.nan
    with pytest.raises(ExpungeError, match=r"1 sample \('2'\) has NaN or infinity in the inputs"):
        audit(mlp(), split, TASK)
    by_name = TensorData({"a": X[:60], "b": broken()[:60]}, Y[:60])
    with pytest.raises(ModelError, match="1 sample"):
        TASK.check(mlp(), by_name.samples())


class Items(torch.utils.data.Dataset):
    def __init__(self, x):
        self.x, self.targets = x, Y[: len(x)].tolist()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, k):
        return self.x[k], self.targets[k]


class Watched(Items):
    def __init__(self, x):
        super().__init__(x)
        self.read = set()

    def __getitem__(self, k):
        self.read.add(int(k))
        return super().__getitem__(k)


def test_the_check_of_a_step_reads_what_the_method_reads():
    items = Watched(X[:60])
    split = Split.by_class(StreamData(items), (X[60:], Y[60:]), [1], validation=0.2)
    retained, forgotten = (set(s.index.tolist()) for s in (split.retain, split.forget))
    for method, allowed in (("delete", forgotten), ("finetune", retained)):
        items.read.clear()
        check_step(Run(mlp(), split, TASK), find(method)())
        assert len(items.read) == 2 and items.read <= allowed, method


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("method", ["gradient_ascent", "ssd", "finetune", "retrain"])
def test_a_streamed_sample_with_nan_is_named_and_the_steps_are_not_blamed(method):
    x = broken()
    # one of the forget set (class 1) and one of the retain set
    x[40, 3], x[17, 3] = torch.nan, X[17, 3] if method in ("gradient_ascent", "ssd") else torch.nan
    split = Split.by_class(StreamData(Items(x[:60])), StreamData(Items(X[60:])), [1], validation=0.2)
    result = run(mlp(), split, method)
    assert result.ended in ("diverged", "unchanged")
    name = "40" if method in ("gradient_ascent", "ssd") else "17"
    assert f"1 sample ('{name}') has no finite loss" in result.status and "Lower lr" not in result.status


def test_saliency_names_a_streamed_sample_with_nan():
    x = X.clone()
    x[40, 3] = torch.nan
    split = Split.by_class(StreamData(Items(x[:60])), StreamData(Items(X[60:])), [1], validation=0.2)
    with pytest.raises(ExpungeError, match=r"1 sample \('40'\) has no finite loss"):
        run(mlp(), split, "salun")


@pytest.mark.parametrize("position", [40, 65])
def test_an_audit_names_a_streamed_sample_with_nan(position):
    """Neither the head, which is looked for with the first test samples, nor the scores are blamed."""
    x = X.clone()
    x[position, 3] = torch.nan
    split = Split.by_class(StreamData(Items(x[:60])), StreamData(Items(x[60:])), [1], validation=0.2)
    with pytest.raises(
        ExpungeError, match=rf"1 sample \('{position % 60}'\) has NaN or infinity in the inputs"
    ):
        audit(mlp(), split, TASK)


def test_an_audit_blames_no_sample_for_a_model_that_overflows():
    model = mlp()
    with torch.no_grad():
        model[2].weight.fill_(torch.finfo(torch.float32).max)
    try:
        audit(model, split_of(), TASK)
    except ExpungeError as error:
        assert "sample (" not in str(error) and "samples (" not in str(error)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_steps_that_diverge_are_still_blamed():
    torch.manual_seed(0)
    method = find("gradient_ascent")(**{**SETTINGS, "lr": 1e30, "epochs": 3})
    result = execute(mlp(), split_of(), method, TASK)
    assert result.ended == "diverged" and "Lower lr" in result.status and "sample (" not in result.status


class WithCopy(nn.Module):
    """A model with further tensors beside `online`, which alone is used."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.online = mlp()
        values = [p.detach() for p in self.online.parameters()]
        if kind == "target":
            self.target = copy.deepcopy(self.online).requires_grad_(False)
        elif kind == "average":
            for k, value in enumerate(values):
                self.register_buffer(f"avg_{k}", value + 0.001 * torch.randn(value.shape))
        elif kind == "flat":
            self.register_buffer("flat", torch.cat([v.flatten() for v in values]))
        elif kind == "tied":
            self.again = self.online[0]
        elif kind == "auxiliary":
            self.aux = nn.Linear(8, 12)
        elif kind == "norms":
            self.norm, self.unused = nn.BatchNorm1d(8), nn.BatchNorm1d(8)
        self.kind = kind

    def forward(self, x):
        return self.online(self.norm(x) if self.kind == "norms" else x)


@pytest.mark.parametrize("method", ["gradient_ascent", "ssd"])
@pytest.mark.parametrize(("kind", "name"), [("target", "target"), ("average", "avg_0"), ("flat", "flat")])
def test_a_second_set_of_weights_inside_the_model_is_refused_by_name(kind, name, method):
    model = WithCopy(kind)
    before = copy.deepcopy(model)
    with pytest.raises(ModelError, match=f"second set of weights in '{name}'.*--ema KEY"):
        run(model, method=method)
    assert same_parameters(model, before) and same_buffers(model, before)


@pytest.mark.parametrize("kind", ["tied", "auxiliary", "norms"])
def test_tensors_that_copy_nothing_are_no_second_set_of_weights(kind):
    result = run(WithCopy(kind))
    assert result.ended == "finished"
    assert any("depends on" in note for note in result.notes) == (kind != "tied")


def test_frozen_layers_that_began_like_trained_ones_are_no_second_set_of_weights():
    layer = nn.Linear(8, 8)
    frozen = copy.deepcopy(layer).requires_grad_(False)
    assert run(nn.Sequential(frozen, layer, nn.Linear(8, 3))).ended == "finished"
