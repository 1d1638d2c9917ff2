"""Convolutional networks get images channels-last if they accept them, with the same results."""

import pytest
import torch
from torch import nn

from expunge import Classification, CropFlip, ExpungeError, Split, TensorData, execute
from expunge.methods.finetune import FineTune
from expunge.torch_utils.memory_format import to_channels_last


class Viewing(nn.Module):
    """A network with a view across channels, as in many tutorials, which fails on channels-last images."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 3)

    def forward(self, x):
        x.view(x.size(0), -1)
        return self.head(self.conv(x).view(x.size(0), -1))


def channels_last(x):
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def test_convolutional_networks_get_channels_last_and_answer_the_same():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3)
    ).eval()
    x = torch.rand(5, 3, 8, 8)
    assert channels_last(to_channels_last(model, x))
    assert torch.allclose(Classification(3).logits(model, x), model(x), atol=1e-5)


@pytest.mark.parametrize("model", [Viewing(), nn.Sequential(nn.Flatten(), nn.Linear(192, 3))])
def test_other_networks_get_unchanged_inputs(model):
    x = torch.rand(5, 3, 8, 8)
    assert to_channels_last(model, x) is x


def test_the_trial_leaves_no_trace():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout()).train()
    x, heard = torch.rand(2, 3, 8, 8), []
    model[0].register_forward_hook(lambda *args: heard.append(args))
    before, state = model[1].running_mean.clone(), torch.get_rng_state()
    to_channels_last(model, x)
    assert not heard and len(model[0]._forward_hooks) == 1
    assert torch.equal(model[1].running_mean, before) and model.training and model[2].training
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_that_takes_views_trains_on_augmented_images():
    x = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8)
    y = torch.arange(60) % 3
    split = Split.random(TensorData(x[:45], y[:45], augment=CropFlip(1)), TensorData(x[45:], y[45:]), 0.2)
    assert execute(Viewing(), split, FineTune(epochs=1), Classification(3)).status == "finished"


def test_logits_of_a_whole_batch_are_refused_with_what_to_pass():
    x, y = torch.rand(5, 3, 8, 8), torch.arange(5) % 3
    model, task = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), Classification(3)
    batch = next(TensorData(x, y).samples().batches(5))
    for ask in (task.logits, task.with_features):
        with pytest.raises(ExpungeError, match=r"pass its inputs, batch\.x"):
            ask(model, batch)
    assert task.logits(model, batch.x).shape == (5, 3)
