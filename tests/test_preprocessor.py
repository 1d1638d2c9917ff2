"""Images are prepared as `preprocessor_config.json` of a model of transformers says."""

import json

import numpy as np
import pytest
import torch

from expunge import ModelError
from expunge.models.preparation import prepared_spec
from expunge.models.preprocessor import preprocessor_options
from expunge.sources import load

HALF = {"mean": "0.5,0.5,0.5", "std": "0.5,0.5,0.5"}
OF_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@pytest.mark.parametrize(
    "config, options",
    [
        # ViT, CLIP, ConvNeXT below and from 384, an old processor with one number, and without a resize
        (
            {"size": {"height": 224, "width": 224}, "resample": 2, **OF_HALF},
            {"size": "224", "interpolation": "bilinear", **HALF},
        ),
        (
            {
                "size": {"shortest_edge": 256},
                "do_center_crop": True,
                "crop_size": {"height": 224, "width": 224},
                "resample": 3,
            },
            {"size": "256", "crop": "224"},
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}, {"size": "256", "crop": "224"}),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, {"size": "384"}),
        ({"size": 224, **OF_HALF}, {"size": "224", **HALF}),
        ({"size": 256, "do_center_crop": True, "crop_size": 224}, {"size": "256", "crop": "224"}),
        ({"do_resize": False, "size": {"height": 8, "width": 8}, **OF_HALF}, HALF),
        # what no option can express
        ({"size": {"height": 224, "width": 192}, **OF_HALF}, HALF),
        ({"size": {"shortest_edge": 224}}, {}),
        ({"size": {"shortest_edge": 200}, "do_center_crop": True, "crop_size": 224}, {}),
        ({"do_normalize": False, **OF_HALF}, {}),
        ({"rescale_factor": 1 / 127.5, **OF_HALF}, {}),
        ({"do_rescale": False, **OF_HALF}, {}),
        ({}, {}),
    ],
)
def test_options_of_a_configuration(tmp_path, config, options):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    assert preprocessor_options(tmp_path) == options


def test_a_broken_configuration_is_refused(tmp_path):
    assert preprocessor_options(tmp_path) == {}
    for text in ("[", '{"size": {"height": "x", "width": "x"}}', '{"image_mean": 3, "image_std": 3}'):
        (tmp_path / "preprocessor_config.json").write_text(text)
        with pytest.raises(ModelError, match="cannot be read as the configuration of an image processor"):
            preprocessor_options(tmp_path)


@pytest.mark.parametrize("kind", ["hf-config", "hf-weights"])
def test_every_source_of_images_takes_them_where_the_user_gives_none(tmp_path, kind):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 32, **OF_HALF}))
    model, added = f"{kind}:{tmp_path}", "size=32&mean=0.5,0.5,0.5&std=0.5,0.5,0.5"
    for source in ("folder:x", "images:x.csv", "webdataset:x", "hf:x", "torchvision:SVHN"):
        assert prepared_spec(source, model) == f"{source}?{added}"
    assert prepared_spec("folder:x?crop=8", model) == "folder:x?crop=8&mean=0.5,0.5,0.5&std=0.5,0.5,0.5"
    assert prepared_spec("folder:x?channels=1", model) == "folder:x?channels=1&size=32"
    assert prepared_spec("cifar10:x", model) == "cifar10:x?mean=0.5,0.5,0.5&std=0.5,0.5,0.5"
    for other in ("digits", "npz:x", "text:x.csv", "hf:x?text=review", "mine:data"):
        assert prepared_spec(other, model) == other


def test_a_prepared_image_is_that_of_the_processor(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    for name in ("cat", "dog"):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for k in range(5):
            Image.fromarray(pixels).save(tmp_path / "pics" / name / f"{k}.png")
    processor = transformers.ViTImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.4, 0.5, 0.6])
    processor.save_pretrained(tmp_path / "vit")
    source = load(prepared_spec(f"folder:{tmp_path / 'pics'}", f"hf-config:{tmp_path / 'vit'}"))
    mine = next(source.train.samples().batches(1)).x[0]
    theirs = torch.as_tensor(
        np.asarray(processor(Image.fromarray(pixels), return_tensors="np").pixel_values[0])
    )
    assert mine.shape == theirs.shape == (3, 16, 16)
    assert torch.allclose(mine, theirs, atol=1e-5)
    # the control: the default of a folder is another image
    assert not torch.allclose(
        next(load(f"folder:{tmp_path / 'pics'}?size=16").train.samples().batches(1)).x[0], theirs, atol=1e-2
    )
