"""Checks of what users give."""

import numpy as np
import pytest

from pixelvae_tf import checks


@pytest.mark.parametrize("temperature", [1e-6, 1.0, 1e6])
def test_temperatures_in_the_range_are_good(temperature):
    assert checks.good_temperature(np.float64(temperature))
    checks.check_temperature([1.0, temperature])


@pytest.mark.parametrize("temperature", [-1.0, 0.0, 0.9e-6, 1.1e6, np.inf, np.nan])
def test_other_temperatures_are_refused(temperature):
    assert not checks.good_temperature(np.float64(temperature))
    with pytest.raises(ValueError, match="temperature must be in"):
        checks.check_temperature([1.0, temperature])
