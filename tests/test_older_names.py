"""Files of older releases: weight_norm before parametrizations, and buffers that transformers no longer saves."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrizations

from expunge import CheckpointError
from expunge.records.checkpoint import read_checkpoint, write_checkpoint
from expunge.records.checkpoint_loading import load_into
from expunge.records.older_names import weight_norm_rule
from tiny_families import tiny


def network(norm):
    torch.manual_seed(0)
    return nn.Sequential(norm(nn.Linear(5, 6)), nn.ReLU(), nn.Linear(6, 3))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prefix", ["", "module.", "net."])
def test_an_output_has_the_names_of_the_older_weight_norm(tmp_path, prefix):
    older, newer = network(nn.utils.weight_norm), network(parametrizations.weight_norm)
    torch.save({prefix + k: v for k, v in older.state_dict().items()}, tmp_path / "a.pt")
    checkpoint = read_checkpoint(tmp_path / "a.pt")
    load_into(newer, checkpoint)
    x = torch.randn(4, 5)
    assert torch.allclose(newer(x), older(x))
    with torch.no_grad():
        for k, parameter in enumerate(newer.parameters()):
            parameter.add_(0.1 * (k + 1))
    out = write_checkpoint(tmp_path / "b.pt", newer.state_dict(), like=checkpoint)
    written = torch.load(out, weights_only=True)
    assert set(written) == {prefix + k for k in older.state_dict()}
    # g and v are not exchanged
    again = network(nn.utils.weight_norm)
    again.load_state_dict({k.removeprefix(prefix): v for k, v in written.items()})
    assert torch.allclose(again(x), newer(x)) and not torch.allclose(older(x), newer(x))


def test_other_parameters_that_end_alike_keep_their_names():
    rule = weight_norm_rule(
        ["a.parametrizations.weight.original0", "a.parametrizations.weight.original1", "b.gain_g"]
    )
    names = ["a.weight_g", "a.weight_v", "b.gain_g", "c.weight_g", "a.bias"]
    assert [rule(name) for name in names] == [
        "a.parametrizations.weight.original0",
        "a.parametrizations.weight.original1",
        "b.gain_g",
        "c.weight_g",
        "a.bias",
    ]
    assert weight_norm_rule(["a.weight_g"]) is None


@pytest.mark.filterwarnings("ignore")
def test_masks_that_older_releases_of_gpt2_saved_are_left_out(tmp_path):
    model = tiny("gpt2")
    model.save_pretrained(tmp_path / "gpt")
    file = tmp_path / "gpt" / "model.safetensors"
    own = load_file(file)
    masks = {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64).tril(),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
    }
    save_file({**own, **masks}, file, {"format": "pt"})
    checkpoint, fresh = read_checkpoint(tmp_path / "gpt"), type(model)(model.config).float()
    load_into(fresh, checkpoint)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in fresh.state_dict().items())
    assert [n for n in checkpoint.notices if n.startswith("2 buffers of gpt are of an older transformers")]
    out = write_checkpoint(tmp_path / "out", fresh.state_dict(), like=checkpoint)
    assert set(load_file(out / "model.safetensors")) == set(own)
    # any other tensor is still refused
    save_file({**own, "transformer.h.0.attn.other": torch.ones(5000)}, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"attn\.other"):
        load_into(fresh, read_checkpoint(tmp_path / "gpt"))
