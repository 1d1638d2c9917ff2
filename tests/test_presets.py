"""Test that presets name existing methods, fields and models."""

from dataclasses import fields

import pytest

from expunge.models import build
from expunge.training.registry import find, names
from expunge.tuning import presets


@pytest.mark.parametrize("key", presets.SETTINGS, ids=str)
def test_settings_are_fields_of_methods(key):
    for name, settings in presets.SETTINGS[key].items():
        assert name in names() and set(settings) <= {f.name for f in fields(find(name))}
        assert not presets.method(name, key[0], key[1]).problems()


def test_recipes_and_models():
    for data, model in presets.MODELS.items():
        assert not presets.recipe(f"{data}:somewhere?limit=5").problems()
        build(model, num_classes=10, shape=(3, 32, 32))
    assert presets.recipe("folder:x").epochs == 182 and presets.method("salun", "npz:f", "class").lr == 0.013
