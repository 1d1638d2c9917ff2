"""Random generators that the tests of a file share."""

import numpy as np
import pytest


def same_in_any_order(generator: np.random.Generator):
    """Return a fixture that lets each test of a file draw the same numbers, whichever tests ran before it."""
    start = generator.bit_generator.state

    @pytest.fixture(autouse=True)
    def restored():
        generator.bit_generator.state = start

    return restored
