"""Image prompts and edges of requests: of the right images, and as OpenCV finds them."""

from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
from PIL import Image

from sgid.methods.conditioning import Edges, ImagePrompts, canny
from sgid.methods.dalda import FILE, scale, scale_by_clip
from sgid.methods.method import make_method
from sgid.methods.requests import fit
from sgid.methods.strength import by_similarity
from tests.methods.test_requests import describe, make_plan

PLAIN = {"from_image": False, "strength": 1.0, "expansion": 2}


@pytest.mark.parametrize("thresholds", [(120, 200), (20, 60), (0, 0), (50, 50)])
def test_edges_are_those_of_opencv(fashion, thresholds):
    noise = np.random.default_rng(0).integers(0, 256, (41, 30, 3), np.uint8)
    smooth = Image.fromarray(noise).resize((90, 61), Image.Resampling.BICUBIC)
    images = [*(one.image.convert("RGB") for one in fashion), Image.fromarray(noise), smooth]
    found = 0
    for image in images:
        expected = cv2.Canny(np.asarray(image), *thresholds)
        edges = canny(image, *thresholds)
        assert edges.mode == "L" and edges.size == image.size
        np.testing.assert_array_equal(np.asarray(edges), expected)
        found += (expected > 0).sum()
    assert found > 100


def test_a_method_without_conditions_reads_and_gives_none(fashion):
    for request in make_plan(fashion, **PLAIN).requests(range(4)):
        assert request.image_prompt is request.edges is request.image_guidance_scale is None


@pytest.mark.parametrize("of", ["own", "same_class"])
def test_edges_and_prompts_are_of_the_images_named(fashion, of):
    few = fashion.select(sorted(range(len(fashion)), key=fashion.labels.__getitem__)[:5])
    plan = make_plan(few, edges=Edges(of, 0.7, 20, 60), image_prompt=ImagePrompts("own"), **PLAIN)
    alone = [index for index, label in enumerate(few.labels) if few.labels.count(label) == 1]
    taken: dict[str, set[str]] = {}
    for row, request in enumerate(plan.requests(range(len(plan)))):
        own = row // 2
        sample = few[plan.index[request.edges.key]]
        if of == "own" or own in alone:
            assert request.edges.key == few.keys[own]
        else:
            assert sample.label == few.labels[own] and request.edges.key != few.keys[own]
        image = fit(sample.image, resolution=32, multiple=8)
        assert request.edges.image.tobytes() == canny(image, 20, 60).tobytes()
        assert request.edges.scale == 0.7
        assert request.image_prompt.key == few.keys[own]
        prompt = fit(few[own].image, resolution=32, multiple=8)
        assert request.image_prompt.image.tobytes() == prompt.tobytes()
        taken.setdefault(few.keys[own], set()).add(request.edges.key)
        (alike,) = plan.requests([row])
        assert (alike.edges, alike.image_prompt) == (request.edges, request.image_prompt)
    if of == "same_class":  # both repeats take another one, where there are two others
        assert max(map(len, taken.values())) == 2


def test_edges_of_another_image_have_the_size_of_the_start(fashion):
    tall = Image.new("RGB", (32, 64), "red")
    tall.paste("white", (8, 8, 24, 40))

    class Varied:
        """Every other image is tall."""

        def __init__(self, images):
            self.images = images

        def __getattr__(self, name):
            return getattr(self.images, name)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            one = self.images[index]
            return replace(one, image=tall) if index % 2 else one

    few = fashion.select([i for i in range(len(fashion)) if fashion.labels[i] == 0][:2])
    plan = make_plan(few, edges=Edges("same_class"), expansion=1)
    plan = replace(plan, images=Varied(few))
    sizes = set()
    for request in plan.requests(range(2)):
        assert request.edges.image.size == request.init_image.size
        assert request.edges.key != request.described.key
        sizes.add(request.init_image.size)
    assert len(sizes) == 2


def test_scales_of_image_prompts_follow_the_rules_of_strengths(fashion):
    rule = partial(by_similarity, min=0.2, max=0.8, quantiles=[0, 1])
    plan = make_plan(fashion, image_prompt=ImagePrompts("own", rule), **PLAIN)
    scales = [one.image_prompt.scale for one in plan.requests(range(len(plan)))]
    similarities = [one.similarity for one in describe(fashion)]
    assert scales[0] == pytest.approx(0.2) and scales[-1] == pytest.approx(0.8)
    assert np.corrcoef(np.repeat(similarities, 2), scales)[0, 1] == pytest.approx(1)
    assert plan.method.needs_captions
    bare = make_plan(fashion, prompt="", image_prompt=ImagePrompts("own", rule), **PLAIN)
    assert bare.method.needs_captions
    spread = make_plan(fashion, image_prompt=ImagePrompts("own", {"min": 0.3, "max": 0.5}), **PLAIN)
    drawn = [one.image_prompt.scale for one in spread.requests(range(len(spread)))]
    assert 0.3 <= min(drawn) < max(drawn) < 0.5 and len(set(drawn)) == len(drawn)


def entry(**parts):
    return {
        "prompt": "{label}", "from_image": False, "strength": 1.0,
        "guidance": {"_target_": "fixed"}, **parts,
    }  # fmt: skip


def test_what_a_method_does_not_use_is_in_no_spec():
    def made(**parts):
        return make_method("m", entry(**parts), lambda _: len, lambda value: value)

    plain = made()
    assert plain.spec.keys() == entry().keys() and plain.image_prompt is None
    assert made(image_prompt=None, edges={}, image_guidance=None).spec == plain.spec
    method = made(image_prompt={"scale": [0.2, 0.4]}, edges={"low": 5}, image_guidance=1.2)
    assert method.spec["edges"] == {"low": 5} and method.edges == Edges(low=5)
    assert method.image_prompt == ImagePrompts("own", [0.2, 0.4])
    assert method.spec["image_guidance"] == method.image_guidance == 1.2
    rule = made(image_prompt={"scale": {"_target_": "by_shots"}})
    assert rule.image_prompt is not None and rule.image_prompt.scale is len


@pytest.mark.parametrize(
    ("probability", "shots", "mean", "low", "high"),
    [
        (0.2, 1, 0.86, 0.7, 0.9),
        (0.3, 4, 0.84, 0.7, 0.9),
        (0.31, 1, 0.307, 0.1, 0.5),
        (0.9, 4, 0.13, 0.1, 0.6),
        (1.0, 16, 0.1, 0.1, 0.8),
    ],
)
def test_daldas_scale_is_normal_about_the_mean_and_cut_off(probability, shots, mean, low, high):
    """Against the normal distribution's own density, on a grid."""
    places = np.linspace(low, high, 20001)
    density = np.exp(-(((places - mean) / (0.05 * shots)) ** 2) / 2)
    shares = np.cumsum(density) / density.sum()
    for share in (0.0, 0.1, 0.5, 0.9, 0.999):
        expected = np.interp(share, shares, places)
        assert scale(probability, shots, share) == pytest.approx(expected, abs=1e-3)
        assert low <= scale(probability, shots, share) <= high


def test_daldas_scales_are_of_the_originals_own_probability_and_drawn_anew(fashion, tmp_path):
    known = np.where(np.arange(len(fashion)) % 2, 0.9, 0.1)
    np.save(tmp_path / FILE, known)
    plan = make_plan(
        fashion, image_prompt=ImagePrompts(), changes=scale_by_clip, **{**PLAIN, "expansion": 3}
    )
    plan = replace(plan, artifact=tmp_path)
    requests = plan.requests(range(len(plan)))
    for row, request in enumerate(requests):
        low, high = (0.1, 0.75) if row // 3 % 2 else (0.7, 0.9)
        assert low <= request.image_prompt.scale <= high
    assert len({one.image_prompt.scale for one in requests}) == len(requests)
    assert plan.requests([7])[0].image_prompt.scale == requests[7].image_prompt.scale


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ImagePrompts("any"), "of=any: unknown; one of own, same_class"),
        (lambda: ImagePrompts(scale=3), "scale=3: must be a number from 0 to 2"),
        (lambda: ImagePrompts(scale=[0.5, -1]), "scale=-1: must be"),
        (lambda: ImagePrompts(scale="much"), "scale=much: must be"),
        (lambda: Edges(low=200, high=100), "low=200, high=100: must be"),
    ],
)
def test_conditions_that_cannot_be(make, said):
    with pytest.raises(ValueError, match=said):
        make()
