"""`load_into` accepts what `load_state_dict(strict=True)` accepts, and refuses tensors that no model can be trained from."""

import pytest
import torch
import torch.nn.utils
from torch import nn

from expunge import CheckpointError
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_loading import load_into
from expunge.records.hashing import state_hash


def saved(tmp_path, state):
    torch.save(state, tmp_path / "m.pt")
    return read_checkpoint(tmp_path / "m.pt")


def norm_net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.linear = nn.Parameter(torch.tensor(1.0)), nn.Linear(2, 2)


class Migrated(nn.Module):
    """Version 1 stored the weight transposed."""

    _version = 2

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        if (local_metadata.get("version") or 1) < 2:
            state_dict[f"{prefix}weight"] = state_dict[f"{prefix}weight"].T
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class Renamed(nn.Module):
    """A hook takes the name of an older release."""

    def __init__(self):
        super().__init__()
        self.new = nn.Linear(2, 2)
        self.register_load_state_dict_pre_hook(self.rename)

    @staticmethod
    def rename(module, state_dict, prefix, *rest):
        for name in [k for k in state_dict if k.startswith(f"{prefix}old.")]:
            state_dict[name.replace("old.", "new.")] = state_dict.pop(name)


class Extra(nn.Module):
    def __init__(self, extra):
        super().__init__()
        self.linear, self.extra = nn.Linear(2, 2), extra

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, extra):
        self.extra = extra


def no_counts(state):
    return {k: v for k, v in state.items() if "num_batches" not in k}


ACCEPTED = {
    "files before torch 0.4.1": (norm_net, lambda: no_counts(norm_net().state_dict())),
    "old weight norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))),
        lambda: dict(nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(3, 2))).state_dict()),
    ),
    "a number of shape (1,)": (Scaled, lambda: {**Scaled().state_dict(), "scale": torch.full((1,), 3.0)}),
    "a file of version 1": (Migrated, lambda: dict(Migrated().state_dict())),
    "a file of version 2": (Migrated, lambda: Migrated().state_dict()),
    "a file of version 2, nested": (
        lambda: nn.Sequential(Migrated()),
        lambda: {"state_dict": nn.DataParallel(nn.Sequential(Migrated())).state_dict()},
    ),
    "old names": (Renamed, lambda: {"old.weight": torch.eye(2), "old.bias": torch.ones(2)}),
    "extra state": (lambda: Extra(torch.ones(2)), lambda: Extra(torch.full((2,), 5.0)).state_dict()),
    "lazy layers": (lambda: nn.LazyLinear(2), lambda: nn.Linear(3, 2).state_dict()),
    "float8": (
        lambda: nn.Linear(2, 2),
        lambda: {k: v.to(torch.float8_e4m3fn) for k, v in nn.Linear(2, 2).state_dict().items()},
    ),
    "complex": (
        lambda: nn.Linear(2, 2, dtype=torch.cfloat),
        lambda: nn.Linear(2, 2, dtype=torch.cfloat).state_dict(),
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("name", ACCEPTED)
def test_what_torch_accepts_goes_in_and_comes_out(tmp_path, name):
    make, state = ACCEPTED[name]
    read = saved(tmp_path, state())
    theirs, ours, again = make(), make(), make()
    inner = torch.load(tmp_path / "m.pt")
    inner = inner.get("state_dict", inner)
    (nn.DataParallel(theirs) if read.prefix else theirs).load_state_dict(inner)
    load_into(ours, read)
    assert state_hash(ours.state_dict()) == state_hash(theirs.state_dict())
    # the output is not migrated a second time
    write_checkpoint(tmp_path / "out.pt", ours.state_dict(), like=read)
    load_into(again, read_checkpoint(tmp_path / "out.pt"))
    assert state_hash(again.state_dict()) == state_hash(theirs.state_dict())
    plain = torch.load(tmp_path / "out.pt")
    plain = plain.get("state_dict", plain)
    (nn.DataParallel(theirs) if read.prefix else theirs).load_state_dict(plain)
    assert state_hash(again.state_dict()) == state_hash(theirs.state_dict())


def test_what_torch_refuses_is_refused_and_the_model_stays_as_it_is(tmp_path):
    """The control: a filled-in counter hides no missing tensor, and half a load is taken back."""
    state = no_counts(norm_net().state_dict())
    del state["2.running_mean"], state["1.weight"]
    fresh = norm_net()
    before = state_hash(fresh.state_dict())
    with pytest.raises(CheckpointError) as caught:
        load_into(fresh, saved(tmp_path, state))
    assert caught.value.problems == [
        f"{tmp_path / 'm.pt'}: the checkpoint lacks 2 tensors of the model (first: ['1.weight', '2.running_mean']); use a "
        "checkpoint of the same architecture."
    ]
    assert state_hash(fresh.state_dict()) == before
    # torch fills counters in for old files only
    newer = norm_net().state_dict()
    del newer["1.num_batches_tracked"]
    with pytest.raises(RuntimeError, match="num_batches_tracked"):
        norm_net().load_state_dict(newer)
    with pytest.raises(CheckpointError, match="num_batches_tracked"):
        load_into(norm_net(), saved(tmp_path, newer))


def test_a_hook_that_fails_is_reported_and_the_model_stays_as_it_is(tmp_path):
    def refuse(module, incompatible):
        raise KeyError("no such layer")

    fresh = nn.Linear(2, 2)
    fresh.register_load_state_dict_post_hook(refuse)
    before = state_hash(fresh.state_dict())
    with pytest.raises(CheckpointError, match="the model refuses it: KeyError: 'no such layer'"):
        load_into(fresh, saved(tmp_path, nn.Linear(2, 2).state_dict()))
    assert state_hash(fresh.state_dict()) == before


def quantized(t):
    return torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)


UNUSABLE = {
    "sparse": (lambda t: t.to_sparse(), r"`weight` is sparse \(torch.sparse_coo\); save it dense"),
    "compressed": (lambda t: t.to_sparse_csr(), r"`weight` is sparse \(torch.sparse_csr\)"),
    "meta": (lambda t: t.to("meta"), "`weight` is on the meta device and has no values"),
    "quantized": (quantized, "`weight` is quantized"),
    "nested": (lambda t: torch.nested.nested_tensor([*t]), "`weight` is a nested tensor"),
    "not finite": (lambda t: torch.full_like(t, torch.inf).to(torch.float8_e5m2), "NaN or infinity"),
}


@pytest.mark.filterwarnings("ignore:.*(prototype|beta|quantize)")
@pytest.mark.parametrize("kind", UNUSABLE)
def test_tensors_without_dense_values_are_named(tmp_path, kind):
    change, words = UNUSABLE[kind]
    fresh = nn.Linear(2, 3)
    before = state_hash(fresh.state_dict())
    state = nn.Linear(2, 3).state_dict()
    state["weight"] = change(state["weight"])
    with pytest.raises(CheckpointError, match=words) as caught:
        load_into(fresh, saved(tmp_path, state))
    assert len(caught.value.problems) == 1 and state_hash(fresh.state_dict()) == before


def test_extra_state_that_is_no_tensor_is_refused(tmp_path):
    read = saved(tmp_path, Extra({"scale": 2}).state_dict())
    with pytest.raises(CheckpointError) as caught:
        load_into(Extra({"scale": 1}), read)
    assert caught.value.problems == [
        f"{read.path}: `get_extra_state` of the model returns a dict for `_extra_state`, which has no hash; return a tensor, or "
        "use buffers."
    ]


class Typed(nn.Module):
    """A matrix, a number and a count of chosen types."""

    def __init__(self, weight=torch.float32, number=torch.float32, count=torch.int64):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2, dtype=weight))
        self.register_buffer("number", torch.tensor(2, dtype=number))
        self.register_buffer("count", torch.tensor([3, 4], dtype=count))


LOST = {
    "int8 for float": ("weight", torch.ones(2, 2, dtype=torch.int8), "1 tensors are torch.int8"),
    "int64 for float": ("weight", torch.ones(2, 2, dtype=torch.int64), "torch.int64, and in the model they are torch.float32"),
    "bool for float": ("weight", torch.ones(2, 2, dtype=torch.bool), "torch.bool"),
    "complex for float": ("weight", torch.ones(2, 2, dtype=torch.cfloat), "torch.complex64"),
    "too large for float": ("weight", torch.full((2, 2), 1e300, dtype=torch.float64), "cannot hold their values"),
    "complex for a buffer": ("number", torch.tensor(2 + 0j), "torch.complex64"),
    "too large for a buffer": ("number", torch.tensor(2**24 + 1), "torch.int64, and in the model they are torch.float32"),
    "fractions for whole numbers": ("count", torch.tensor([0.5, 4.0]), r"\['count'\]"),
    "too large for whole numbers": ("count", torch.tensor([1e30, 4.0]), "torch.int64"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Casting complex")
@pytest.mark.parametrize("kind", LOST)
def test_values_that_the_type_of_the_model_cannot_hold_are_refused(tmp_path, kind):
    name, value, words = LOST[kind]
    fresh = Typed()
    before = state_hash(fresh.state_dict())
    with pytest.raises(CheckpointError, match=words):
        load_into(fresh, saved(tmp_path, {**Typed().state_dict(), name: value}))
    assert state_hash(fresh.state_dict()) == before


@pytest.mark.parametrize(
    "given",
    [
        {"weight": torch.float16},
        {"weight": torch.float64},
        {"weight": torch.bfloat16},
        {"weight": torch.float8_e4m3fn},
        {"number": torch.int64},
        {"number": torch.float16},
        {"count": torch.int32},
        {"count": torch.float32},
        {"count": torch.uint8},
    ],
)
def test_values_that_survive_another_type_are_loaded(tmp_path, given):
    fresh = Typed()
    load_into(fresh, saved(tmp_path, Typed(**given).state_dict()))
    assert all(torch.equal(v, Typed().state_dict()[k]) for k, v in fresh.state_dict().items())


def test_values_beyond_half_precision_are_refused(tmp_path):
    state = {**Typed().state_dict(), "weight": torch.full((2, 2), 1e5)}
    with pytest.raises(CheckpointError, match=r"torch.float32, and in the model they are torch.float16"):
        load_into(Typed(weight=torch.float16), saved(tmp_path, state))
    load_into(Typed(), saved(tmp_path, state))
