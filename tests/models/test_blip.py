import random

import pytest
import torch
from transformers import BlipForConditionalGeneration

from tests.conftest import MODELS


@pytest.fixture(scope="module")
def captioner(make_captioner):
    return make_captioner()


@pytest.fixture(scope="module")
def pictures(fashion):
    return [sample.image for sample in fashion][:9]


@pytest.fixture(scope="module")
def keys(fashion):
    return list(fashion.keys[:9])


@pytest.fixture(scope="module")
def captions(captioner, pictures, keys):
    return list(captioner(pictures, keys))


def test_the_first_is_what_blip_itself_generates(captioner, captions, pictures):
    blip = BlipForConditionalGeneration.from_pretrained(MODELS / "blip").eval()
    for picture, candidates in zip(pictures, captions, strict=True):
        inputs = captioner.processor(images=picture, return_tensors="pt")
        with torch.no_grad():
            tokens = blip.generate(**inputs, do_sample=False, max_new_tokens=12)
        assert candidates[0] == captioner.processor.decode(tokens[0], skip_special_tokens=True)


def test_candidates_are_distinct(captions):
    for candidates in captions:
        assert 1 <= len(candidates) <= 4 and len(set(candidates)) == len(candidates)
    assert max(map(len, captions)) > 1


def test_they_do_not_depend_on_the_batch(make_captioner, captions, pictures, keys):
    expected = dict(zip(keys, captions, strict=True))
    order = random.Random(0).sample(range(len(keys)), len(keys))
    for batch_size in (1, 4, 64):
        torch.manual_seed(batch_size)  # nor on the state of the global generator
        captioner = make_captioner(batch_size=batch_size)
        found = captioner([pictures[i] for i in order], [keys[i] for i in order])
        assert dict(zip([keys[i] for i in order], found, strict=True)) == expected


def test_they_do_depend_on_seed_and_key(make_captioner, captions, pictures, keys):
    other_seed = list(make_captioner(seed=1)(pictures, keys))
    other_keys = list(make_captioner()(pictures, [f"other {key}" for key in keys]))
    for others in (other_seed, other_keys):
        assert [one[0] for one in others] == [one[0] for one in captions]  # greedy stays
        assert others != captions


def test_the_global_generator_is_left_alone(captioner, pictures, keys):
    before = torch.random.get_rng_state()
    list(captioner(pictures[:2], keys[:2]))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_small_nucleus_leaves_only_the_greedy_caption(make_captioner, pictures, keys):
    assert all(len(one) == 1 for one in make_captioner(top_p=1e-6)(pictures, keys))
    assert all(len(one) == 1 for one in make_captioner(candidates=1)(pictures, keys))


def test_no_caption_is_longer_than_max_tokens(make_captioner, captions, pictures, keys):
    for short, long in zip(make_captioner(max_tokens=3)(pictures, keys), captions, strict=True):
        assert long[0].startswith(short[0])
        assert all(len(text.split()) <= 3 for text in short)


def test_blip_sees_the_pixels_that_its_processor_makes(captioner, pictures, keys):
    seen = []
    hook = captioner.model.vision_model.register_forward_pre_hook(lambda _, args: seen.append(args))
    try:
        large = [picture.resize((50, 41)).convert("L") for picture in pictures[:2]]
        list(captioner([*pictures, *large], [*keys, "8", "9"]))
    finally:
        hook.remove()
    expected = captioner.processor(images=[*pictures, *large], return_tensors="pt")["pixel_values"]
    assert torch.equal(torch.cat([pixels for (pixels,) in seen]), expected)


def test_more_tokens_than_the_model_has_places_for(make_captioner):
    with pytest.raises(
        ValueError, match=r"models\.captioner\.max_tokens=49: .*blip writes up to 48"
    ):
        make_captioner(max_tokens=49)
    make_captioner(max_tokens=48)


@pytest.mark.parametrize("fits", [1, 3])
def test_out_of_memory_halves_the_batch_for_good(make_captioner, captions, pictures, keys, fits):
    captioner, sizes = make_captioner(batch_size=9), []

    def small_device(_, given):
        sizes.append(len(given[0]))
        if len(given[0]) > fits:
            torch.empty(2**50)  # the allocator's own error

    captioner.model.vision_model.register_forward_pre_hook(small_device)
    assert list(captioner(pictures, keys)) == captions
    assert sizes[:3] == [9, 4, 2] and captioner.batches.size == (1 if fits == 1 else 2)
    sizes.clear()
    assert list(captioner(pictures, keys)) == captions and max(sizes) <= fits


def test_an_image_that_does_not_fit_alone(make_captioner, pictures, keys):
    captioner = make_captioner()
    captioner.model.vision_model.register_forward_pre_hook(lambda *_: torch.empty(2**50))
    with pytest.raises(ValueError, match=r"one at a time; take models\.captioner\.dtype=float16"):
        list(captioner(pictures, keys))
