from functools import partial

import numpy as np
import pytest

from sgid.data.listing import phrase
from sgid.methods.guidance import averaged, fixed, linear
from sgid.methods.method import Method
from sgid.methods.requests import RequestPlan, Undescribed
from sgid.records import Described
from sgid.reproducibility import derive_seed

TEMPLATE = "a photo of a {label}, {caption}"


def describe(images):
    return [
        Described(key, label, images.class_names[label], f"caption {key}", i / 100, (), ())
        for i, (key, label) in enumerate(zip(images.keys, images.labels, strict=True))
    ]


def make_plan(images, *, described=None, expansion=3, seed=0, **recipe):
    settings = {"name": "sgid", "prompt": TEMPLATE, "from_image": True, "strength": 0.5}
    settings |= {"guidance": partial(linear, min=3, max=7.5)}
    described = described or describe(images)
    return RequestPlan(
        images=images,
        described=described,
        similarities=np.array([one.similarity for one in described]),
        method=Method(**{**settings, **recipe}),
        words={"label": [phrase(name, "garment") for name in images.class_names]},
        expansion=expansion,
        seed=seed,
        resolution=32,
        multiple=8,
    )


class Counted:
    """Bytes of images, counting how often each is read."""

    def __init__(self, read):
        self.read = read
        self.rows = []

    def __call__(self, row):
        self.rows.append(row)
        return self.read(row)


@pytest.fixture
def counted(fashion):
    from dataclasses import replace

    return replace(fashion, read=Counted(fashion.read))


def test_rows_are_samples_times_repeats(fashion):
    plan = make_plan(fashion)
    requests = plan.requests(range(len(plan)))
    assert len(plan) == len(requests) == 3 * len(fashion)
    for row, request in enumerate(requests):
        sample = fashion[row // 3]
        assert (request.described.key, request.repeat) == (sample.key, row % 3)
        assert (request.label, request.method) == (sample.label, "sgid")
        assert request.prompt == f"a photo of a {sample.class_name} garment, caption {sample.key}"


def test_a_shard_of_a_plan_is_a_slice_of_it(fashion):
    plan = make_plan(fashion)
    whole = plan.requests(range(len(plan)))
    shard = plan.requests(range(10, 23))
    assert shard == whole[10:23]  # also the init images, pixel by pixel
    assert plan.requests(range(10, 23)) == shard
    assert plan.requests([22, 3, 10]) == [whole[22], whole[3], whole[10]]


def test_seeds_are_hashes_of_seed_key_and_repeat(fashion):
    requests = make_plan(fashion, seed=4).requests(range(12))
    assert [one.seed for one in requests] == [
        derive_seed(4, fashion.keys[row // 3], row % 3) for row in range(12)
    ]
    # Fewer images, another order, another expansion: what is the same image keeps its seed.
    fewer = fashion.select([3, 1])
    others = make_plan(fewer, seed=4, expansion=2).requests(range(4))
    seeds = {(one.described.key, one.repeat): one.seed for one in requests}
    assert all(seeds[one.described.key, one.repeat] == one.seed for one in others)
    assert len(set(seeds.values())) == 12
    assert make_plan(fashion, seed=5).requests(range(1))[0].seed != requests[0].seed


def test_only_the_images_asked_for_are_read_and_each_once(counted):
    plan = make_plan(counted)
    assert counted.read.rows == []
    requests = plan.requests(range(4, 11))
    assert sorted(counted.read.rows) == sorted(counted.rows[i] for i in (1, 2, 3))
    assert requests[2].init_image is requests[3].init_image is requests[4].init_image
    assert requests[1].init_image is not requests[2].init_image


def test_guidance_is_calibrated_on_all_samples(fashion):
    plan = make_plan(fashion)
    scales = linear([d.similarity for d in describe(fashion)], min=3, max=7.5)
    found = [plan.requests(range(row, row + 1))[0].guidance_scale for row in range(len(plan))]
    np.testing.assert_array_equal(found, np.repeat(scales, 3))
    assert all(isinstance(scale, float) for scale in found)


def test_text_to_image_reads_no_image_and_needs_no_caption(counted):
    options = {"prompt": "a {label}", "from_image": False, "strength": 1.0}
    options |= {"guidance": partial(fixed, scale=7.5)}
    plan = make_plan(counted, described=Undescribed(counted), **options)
    requests = plan.requests(range(len(plan)))
    assert counted.read.rows == [] and not plan.method.needs_captions
    assert {one.init_image for one in requests} == {None}
    assert {one.guidance_scale for one in requests} == {7.5}


@pytest.mark.parametrize(
    ("prompt", "guidance", "needed"),
    [
        (TEMPLATE, partial(fixed, scale=7.5), True),
        ("{label}", partial(linear, min=3, max=7.5), True),
        ("{label}", partial(averaged, of=partial(linear, min=3, max=7.5)), True),
        ("{label}", partial(fixed, scale=7.5), False),
        ("", fixed, False),
    ],
)
def test_captions_are_needed_by_prompts_and_by_guidance(prompt, guidance, needed):
    recipe = Method("m", prompt=prompt, from_image=True, strength=0.5, guidance=guidance)
    assert recipe.needs_captions is needed


def test_a_guidance_that_follows_similarities_needs_them(fashion):
    with pytest.raises(ValueError, match="similarity of every caption"):
        make_plan(fashion, described=Undescribed(fashion))


def test_what_is_known_of_images_without_captions(fashion):
    known = Undescribed(fashion)
    assert len(known) == len(fashion)
    for one, sample in zip(known, fashion, strict=True):
        assert (one.key, one.label, one.class_name) == (sample.key, sample.label, sample.class_name)
        assert one.caption == "" and np.isnan(one.similarity) and one.candidates == ()
    assert [one.key for one in known[3:5]] == list(fashion.keys[3:5])
