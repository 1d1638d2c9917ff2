"""The streaming selection against a full stable sort."""

import threading
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from expunge import MaskError
from expunge.masks import radix, topk
from expunge.masks.topk import top_k


def by_sorting(values, k):
    flat = torch.cat([v.double().flatten() for v in values.values()]).abs()
    chosen = torch.zeros(len(flat), dtype=torch.bool)
    chosen[flat.argsort(descending=True, stable=True)[:k]] = True
    return chosen


class Waits(TorchDispatchMode):
    """Counts the operations inside the block by name."""

    def __enter__(self):
        self.seen = Counter()
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen[str(function)] += 1
        return function(*args, **(kwargs or {}))


def flat(mask):
    return torch.cat([m.flatten() for m in mask.values()])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=5),
    st.integers(0, 10**6),
    st.sampled_from(["float", "ties", "few", "tiny"]),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
    st.data(),
)
def test_same_as_a_stable_sort(sizes, seed, kind, dtype, draw):
    g = torch.Generator().manual_seed(seed)
    values = {}
    for number, size in enumerate(sizes):
        x = torch.randn(size, generator=g)
        x = {"float": x, "ties": (x * 3).round() / 3, "few": (x > 0).float() * -0.0, "tiny": x * 1e-42}[kind]
        values[str(number)] = x.to(dtype if number % 2 == 0 else torch.float32)
    total = sum(sizes)
    counts = sorted({0, total, draw.draw(st.integers(0, total)), total // 2})
    for k, mask in zip(counts, top_k(values, counts), strict=True):
        assert torch.equal(flat(mask), by_sorting(values, k)), k
        assert all(mask[n].shape == v.shape for n, v in values.items())


def test_chunks_do_not_matter(monkeypatch):
    values = {"a": (torch.randn(700) * 2).round(), "b": (torch.randn(50, 9) * 2).round()}
    whole = top_k(values, [400])[0]
    monkeypatch.setitem(radix.CHUNK, "cpu", 37)
    assert torch.equal(flat(whole), flat(top_k(values, [400])[0]))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.integers(1, 5),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_wrong_guesses_only_cost_passes(seed, look, digit, dtype):
    """A look at a handful of values and histograms of a few bins still end at the exact answer."""
    g = torch.Generator().manual_seed(seed)
    steps = (
        torch.rand(2000, generator=g, dtype=dtype).sort().values.exp()
    )  # sorted: every so many values mislead
    values = {"a": steps, "b": (torch.randn(301, generator=g, dtype=dtype) * 2).round()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "GUESS_SAMPLES", look)
        patch.setattr(radix, "DIGIT", digit)
        for k, mask in zip([1, 77, 2000, 2300], top_k(values, [1, 77, 2000, 2300]), strict=True):
            assert torch.equal(flat(mask), by_sorting(values, k)), k


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Count and select by torch instead of NumPy, as on a GPU."""
    for module in (radix, topk):
        monkeypatch.setattr(module, "as_array", lambda tensor: tensor)


@pytest.mark.parametrize("chunk", [37, 1 << 18])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_gpu_path_gives_the_same_answer(as_on_a_gpu, monkeypatch, chunk, dtype):
    monkeypatch.setitem(radix.CHUNK, "cpu", chunk)
    values = {
        "ties": (torch.randn(700) * 2).round().to(dtype),
        "none": torch.empty(0),
        "fine": torch.randn(40, 9).to(dtype),
        "zeros": torch.zeros(150).to(dtype),
    }
    counts = [0, 1, 400, 1055, 1100, 1210]
    for k, mask in zip(counts, top_k(values, counts), strict=True):
        assert torch.equal(flat(mask), by_sorting(values, k)), k


def test_a_gpu_is_not_waited_for_at_every_count(as_on_a_gpu, monkeypatch):
    """Only the picking of a bracket's values waits, once a chunk and pass; counts are read at the end of a pass."""
    draw = torch.Generator().manual_seed(0)
    values = {str(n): torch.randn(5000, generator=draw) for n in range(4)}
    monkeypatch.setitem(radix.CHUNK, "cpu", 500)
    with Waits() as waits:
        top_k(values, [9000])
    chunks = 40
    assert waits.seen["aten.index.Tensor"] in (chunks, 2 * chunks)
    assert waits.seen["aten._local_scalar_dense.default"] < chunks
    assert waits.seen["aten.bincount.default"] == 0


def test_a_gpus_chunk_stays_below_two_percent():
    total = 100_000_000
    buffers = radix.ChunkBuffers(radix.SINGLE, torch.device("meta"), total)
    assert sum(t.nbytes for t in (buffers.bits, buffers.above, buffers.at_least_low)) < 0.02 * 4 * total
    assert radix.ChunkBuffers(radix.SINGLE, torch.device("cpu"), total).size == radix.CHUNK["cpu"]


def test_strides_do_not_change_the_order_of_positions():
    plain = (torch.randn(8, 3, 5, 5) * 2).round()
    folded = plain.to(memory_format=torch.channels_last)
    assert torch.equal(top_k({"w": folded}, [200])[0]["w"], top_k({"w": plain}, [200])[0]["w"])


def test_infinity_is_the_largest_and_nan_is_named():
    values = {"a": torch.tensor([1.0, -torch.inf, 3.0]), "b": torch.tensor([[torch.inf, 2.0]])}
    assert flat(top_k(values, [2])[0]).tolist() == [False, True, False, True, False]
    with pytest.raises(MaskError, match="'b'"):
        top_k({"a": torch.ones(3), "b": torch.tensor([1.0, torch.nan])}, [1])
    with pytest.raises(MaskError, match="ask for 0 to 3 values"):
        top_k({"a": torch.ones(3)}, [4])


def test_shards_agree_with_one_process():
    """Three processes as three threads that exchange their counts at barriers."""
    whole = {"a": (torch.randn(90) * 2).round(), "b": (torch.randn(31) * 2).round()}
    cuts = {"a": [0, 30, 61, 90], "b": [0, 10, 10, 31]}
    want = top_k(whole, [50, 7])
    box, barrier, got = {}, threading.Barrier(3), {}

    class Thread:
        def __init__(self, rank):
            self.rank = rank

        def exchange(self, counts):
            box[self.rank] = counts
            barrier.wait()
            every = torch.stack([box[r] for r in range(3)])
            barrier.wait()
            return every

        def sum(self, counts):
            return self.exchange(counts).sum(0)

        gather = exchange

    def work(rank):
        part = {n: v[cuts[n][rank] : cuts[n][rank + 1]] for n, v in whole.items()}
        got[rank] = top_k(part, [50, 7], Thread(rank))

    threads = [threading.Thread(target=work, args=(r,)) for r in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for number in range(2):
        for name in whole:
            assert torch.equal(torch.cat([got[r][number][name] for r in range(3)]), want[number][name])


def test_a_bracket_that_misses_the_value_moves_to_its_side_and_one_that_has_it_narrows():
    counts = torch.tensor([3, 2])
    bracket = radix.Bracket(k=4, low=8, high=9)
    bracket.narrow(above=4, counts=counts, largest=63)
    assert (bracket.low, bracket.high) == (10, 63)
    bracket = radix.Bracket(k=7, low=8, high=9)
    bracket.narrow(above=1, counts=counts, largest=63)
    assert (bracket.low, bracket.high) == (0, 7)
    # one value is above, and two have the digit 1, so the second largest is a 9
    bracket = radix.Bracket(k=2, low=8, high=9)
    bracket.narrow(above=1, counts=counts, largest=63)
    assert (bracket.low, bracket.high, bracket.above, bracket.inside) == (9, 9, 1, 2)
