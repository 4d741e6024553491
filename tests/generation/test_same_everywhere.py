"""Batch size, threads and order: the same words and guidance, and pixels within one grey level."""

from functools import partial

import numpy as np
import pytest
import torch

from sgid.methods.describe import describe
from sgid.methods.guidance import linear
from sgid.methods.method import Method
from sgid.methods.requests import RequestPlan
from sgid.store.tables import to_row
from tests.generation.requests import difference, key

SGID = Method(
    name="sgid",
    prompt="a photo of a {label}, {caption}",
    from_image=True,
    strength=0.5,
    guidance=partial(linear, min=2.0, max=8.0),
)
PIXELS = ("image", "checksum")


@pytest.fixture(scope="module")
def made(fashion, make_captioner, make_scorer, make_engine):
    """`made(size, threads, step)`: described and drawn from nothing, by key.

    A `step` of -1 takes the images in the reverse order.
    """

    def run(size, threads, step=1):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        images = fashion.select(range(len(fashion))[::step])
        try:
            models = make_captioner(batch_size=size), make_scorer(size)
            described = list(describe(list(images), *models))
            similarities = np.array([one.similarity for one in described])
            plan = RequestPlan(
                images, described, similarities, SGID, {"label": images.class_names},
                expansion=1, seed=0, resolution=32, multiple=8,
            )  # fmt: skip
            requests = plan.requests(range(len(plan)))
            drawn = list(make_engine(batch_size=size).generate(requests))
        finally:
            torch.set_num_threads(before)
        return {key(one.request): one for one in drawn}

    return run


@pytest.fixture(scope="module")
def expected(made):
    return made(16, 1)


@pytest.mark.parametrize(("size", "threads", "step"), [(1, 1, 1), (3, 1, -1), (64, 2, 1)])
def test_another_batch_size_other_threads_and_another_order(made, expected, size, threads, step):
    found = made(size, threads, step)
    assert found.keys() == expected.keys() and len(found) == 24
    for name, one in found.items():
        assert one.request.described == expected[name].request.described  # to the last bit
        row, other = (to_row(which, format="png") for which in (one, expected[name]))
        assert all(row[column] == other[column] for column in row if column not in PIXELS)
    apart = [difference(one.image, expected[name].image) for name, one in found.items()]
    assert max(apart) <= 1


def test_the_same_settings_give_the_same_bytes(made, expected):
    again = made(16, 1)
    assert [to_row(one, format="png") for one in again.values()] == [
        to_row(one, format="png") for one in expected.values()
    ]


def test_all_that_could_differ_does_between_images(expected):
    """Else their being the same would say nothing."""
    requests = [one.request for one in expected.values()]
    assert len({one.guidance_scale for one in requests}) > 15
    assert len({one.described.similarity for one in requests}) > 15
    assert len({one.prompt for one in requests}) > 15 and len({one.seed for one in requests}) == 24
