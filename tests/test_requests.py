"""A request that does not fit an export's signatures is refused by its graph, and the next good one is served.

The graph is run by its tensors' names in a session, as a server does.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from servers import Model, Refused

MODEL = "gated_pixel_vae"


@pytest.fixture(scope="module")
def served(export):
    return Model(export(MODEL).path)


@pytest.fixture(scope="module")
def good_request_is_served(served, export):
    """Holds its images against the model."""
    inputs = export(MODEL).inputs(3)

    def check():
        outputs = served.run(served.signature("sample"), inputs)
        np.testing.assert_array_equal(outputs["images"], export(MODEL).images(3))
        assert outputs["error"].tolist() == [b""] * 3

    return check


ONES, SEEDS = np.ones(2, np.float32), np.zeros(2, np.int64)
IMAGES, MASK = np.zeros((2, 7, 7, 1), np.uint8), np.ones((2, 7, 7, 1), np.uint8)
DRAWN = {"seed": SEEDS, "temperature": ONES}
COMPLETE = {"images": IMAGES, "mask": MASK, **DRAWN}
# Of a good request, what is changed; None leaves it out.
MALFORMED = {
    "missing": ("sample", DRAWN, {"seed": None}),
    "rank": ("sample", DRAWN, {"seed": SEEDS[:, None]}),
    "scalar": ("sample", DRAWN, {"seed": np.int64(1), "temperature": np.float32(1)}),
    "sizes": ("sample", DRAWN, {"temperature": np.ones(3, np.float32)}),
    "one for all": ("sample", DRAWN, {"temperature": ONES[:1]}),
    "one seed for all": ("sample", DRAWN, {"seed": SEEDS[:1]}),
    "string": ("sample", DRAWN, {"seed": np.array([b"a", b"b"])}),
    "image shape": ("encode", {}, {"images": IMAGES[:, :6]}),
    "image rank": ("encode", {}, {"images": IMAGES[0]}),
    "latents": ("decode", DRAWN, {"z1": np.zeros((2, 4), np.float32)}),
    "latents of one": ("decode", DRAWN, {"z1": np.zeros((1, 3), np.float32)}),
    "mask shape": ("complete", COMPLETE, {"mask": MASK.repeat(3, axis=-1)}),
    "mask size": ("complete", COMPLETE, {"mask": MASK[:1]}),
    "no mask": ("complete", COMPLETE, {"mask": None}),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_is_refused(served, good_request_is_served, case):
    name, good, changes = MALFORMED[case]
    inputs = {name: value for name, value in {**good, **changes}.items() if value is not None}
    with pytest.raises(Refused):
        served.run(served.signature(name), inputs)
    good_request_is_served()


DTYPES = {
    "images": np.uint8,
    "mask": np.uint8,
    "seed": np.int64,
    "rounds": np.int64,
    "temperature": np.float32,
    "z1": np.float32,
}
SHAPES = {"images": (7, 7, 1), "mask": (7, 7, 1), "z1": (3,)}


def tensors(name):
    """Arrays of an input's dtype, mostly of its shape, with any values."""
    fitting = st.integers(0, 4).map(lambda batch: (batch, *SHAPES.get(name, ())))
    shapes = st.one_of(fitting, fitting, fitting, st_numpy.array_shapes(min_dims=0, max_dims=4, max_side=7))
    return st_numpy.arrays(DTYPES[name], shapes)


def requests(signature, *names):
    return st.tuples(st.just(signature), st.fixed_dictionaries({name: tensors(name) for name in names}))


# The same every time; no deadline, since the machine may be busy.
@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    request=st.one_of(
        requests("sample", "seed", "temperature"),
        requests("complete", "images", "mask", "seed", "temperature"),
        requests("complete_in_rounds", "images", "mask", "seed", "temperature", "rounds"),
        requests("log_prob", "images", "seed"),
        requests("encode", "images"),
        requests("decode", "z1", "seed", "temperature"),
    )
)
def test_any_arrays_are_refused_or_answered_row_by_row(served, good_request_is_served, request):
    signature, inputs = request
    try:
        outputs = served.run(served.signature(signature), inputs)
    except Refused:
        return good_request_is_served()
    (batch,) = {len(values) for values in inputs.values()}
    assert batch > 0 and all(len(values) == batch for values in outputs.values())
    bad = outputs["error"] != b""
    for values in outputs.values():
        if values.dtype != object:
            assert np.isfinite(values).all() and not values[bad].any()
