"""The model hash: against bytes written by hand, over formats, strides, chunks and dtypes, and refusals."""

import hashlib
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from expunge.errors import CheckpointError, ModelError
from expunge.records import hashing
from expunge.records.hashing import load_weights, model_hash, state_hash


def test_by_hand():
    state = {"b": torch.tensor([[1.0, -2.5]]), "a": torch.tensor(7, dtype=torch.int64)}
    data = b"a\0int64\0\0" + struct.pack("<q", 7) + b"b\0float32\x001,2\0" + struct.pack("<2f", 1.0, -2.5)
    assert state_hash(state) == hashlib.sha256(data).hexdigest()


def test_bfloat16_by_hand():
    # bfloat16 is the upper half of float32: 1.0 is 0x3f80
    data = b"w\0bfloat16\x001\0" + b"\x80\x3f"
    assert state_hash({"w": torch.ones(1, dtype=torch.bfloat16)}) == hashlib.sha256(data).hexdigest()


DTYPES = [
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_has_its_own_hash_and_any_stride_the_same(dtype):
    base = torch.arange(24).reshape(4, 6) % 2
    tensor = base.to(dtype)
    assert state_hash({"w": tensor}) != state_hash({"w": base.float()})
    turned = base.t().contiguous().to(dtype).t()
    assert not turned.is_contiguous() and state_hash({"w": turned}) == state_hash({"w": tensor})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=4), st.integers(1, 40), st.randoms())
def test_the_size_of_the_chunks_does_not_matter(shape, chunk, random):
    tensor = torch.randn(shape)
    axes = list(range(len(shape)))
    random.shuffle(axes)
    state = {"w": tensor.permute(axes), "v": tensor}
    whole = state_hash(state)
    old, hashing.CHUNK = hashing.CHUNK, chunk
    try:
        assert state_hash(state) == whole
    finally:
        hashing.CHUNK = old


def test_every_bit_counts():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    start = model_hash(model)
    for name, tensor in model.state_dict().items():
        for i in range(tensor.nbytes):
            flat = tensor.reshape(-1).view(torch.uint8)
            flat[i] ^= 1 << (i % 8)
            assert model_hash(model) != start, name
            flat[i] ^= 1 << (i % 8)
    assert model_hash(model) == start


def test_order_and_type_do_not_count_but_names_shapes_and_values_do():
    one = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    start = state_hash(one)
    assert state_hash(dict(reversed(one.items()))) == start
    assert state_hash({k: nn.Parameter(v) for k, v in one.items()}) == start
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(1)},
        {"a": torch.zeros(6), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3)},
        {"a": -torch.zeros(2, 3), "b": torch.ones(1)},
        {"c": torch.zeros(2, 3), "b": torch.ones(1)},
        {"b": torch.zeros(2, 3), "a": torch.ones(1)},
        {},
    ]
    assert len({state_hash(o) for o in others} | {start}) == len(others) + 1


def test_conjugated_and_negated_views_count_by_value():
    z = torch.randn(3, dtype=torch.complex64)
    assert state_hash({"z": z.conj()}) == state_hash({"z": z.conj().clone().resolve_conj()})
    assert state_hash({"z": z.conj().imag}) == state_hash({"z": -z.imag})


def test_big_endian_machines_write_the_same_bytes():
    numbers = torch.tensor([1, 2, 3], dtype=torch.int32)
    big = torch.tensor(list(struct.pack(">3i", 1, 2, 3)), dtype=torch.uint8)
    assert bytes(hashing._little_endian(big, 4, "big")) == numbers.numpy().astype("<i4").tobytes()


def test_a_sharded_model_hashes_as_the_whole_one():
    dist = torch.distributed
    if dist.is_initialized():
        pytest.skip("another test left a process group behind")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        whole = {"a": torch.randn(4, 3), "b": torch.randn(5)}
        sharded = {k: distribute_tensor(v, mesh, [Shard(0)]) for k, v in whole.items()}
        assert state_hash(sharded) == state_hash(whole)
    finally:
        dist.destroy_process_group()


def test_files_hash_as_the_model(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).bfloat16()
    state = model.state_dict()
    save_file(state, tmp_path / "m.safetensors")
    torch.save(state, tmp_path / "m.pt")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "c.pt")
    assert (
        {model_hash(tmp_path / n) for n in ("m.safetensors", "m.pt", "c.pt")}
        == {model_hash(model)}
        == {model_hash(state)}
    )
    wrapped = {f"module._orig_mod.{k}": v for k, v in state.items()}  # as DDP and torch.compile name them
    save_file(wrapped, tmp_path / "w.safetensors")
    torch.save(wrapped, tmp_path / "w.pt")
    assert {model_hash(tmp_path / n) for n in ("w.safetensors", "w.pt")} == {model_hash(model)}
    lazy = load_weights(tmp_path / "m.safetensors")
    assert len(lazy) == len(state) and "nothing" not in lazy


def test_files_without_tensors_are_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    (tmp_path / "b.pt").write_bytes(b"nothing")
    torch.save([1, 2], tmp_path / "c.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "d.pt")  # a pickled class is not loaded, so none of its code runs
    for name in ("a.safetensors", "b.pt", "c.pt", "d.pt", "missing.pt", "missing.safetensors"):
        with pytest.raises(CheckpointError):
            model_hash(tmp_path / name)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_in_a_pickle_is_executed(tmp_path):
    torch.save({"w": torch.ones(1), "x": Payload(str(tmp_path / "was-here"))}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError):
        model_hash(tmp_path / "m.pt")
    assert not (tmp_path / "was-here").exists()


def test_one_error_lists_all_entries_that_cannot_be_hashed():
    bad = {
        "a": torch.eye(2).to_sparse(),
        "b": 3,
        "c": torch.empty(2, device="meta"),
        "d\0": torch.ones(1),
        "\ud800": torch.ones(1),
    }
    with pytest.raises(ModelError) as caught:
        state_hash(bad)
    assert len(caught.value.problems) == 5
