import random

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import TopPLogitsWarper

from sgid.semantics.captions import SeededGumbel


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
    for picture, candidates in zip(pictures, captions, strict=True):
        inputs = captioner.processor(images=picture, return_tensors="pt")
        with torch.no_grad():
            tokens = captioner.model.generate(**inputs, do_sample=False, max_new_tokens=12)
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


def test_gumbel_max_samples_the_nucleus():
    # 0.4 + 0.3 < 0.85 <= 0.4 + 0.3 + 0.2: the nucleus is the first three.
    p = torch.tensor([0.05, 0.4, 0.2, 0.05, 0.3])
    rows = 6000
    scores = p.log().repeat(rows, 1)
    warped = TopPLogitsWarper(0.85)(None, scores)  # type: ignore[arg-type]
    seeds = range(10_000, 10_000 + rows)
    drawn = SeededGumbel(seeds, greedy_every=rows)(None, warped).argmax(1)  # type: ignore[arg-type]
    assert drawn[0] == 1  # the greedy row
    counts = torch.bincount(drawn[1:], minlength=5)
    assert counts[0] == counts[3] == 0
    nucleus = np.array([0.4, 0.2, 0.3]) / 0.9 * (rows - 1)
    assert chisquare(counts[[1, 2, 4]].numpy(), nucleus).pvalue > 0.01


def test_gumbel_noise_goes_on_from_step_to_step():
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    sample = SeededGumbel([0, 7], greedy_every=2)
    steps = 3000
    drawn = [sample(None, p.log().repeat(2, 1)).argmax(1) for _ in range(steps)]  # type: ignore[arg-type]
    greedy, sampled = torch.stack(drawn).T
    assert (greedy == 0).all()
    counts = torch.bincount(sampled, minlength=3)
    assert chisquare(counts.numpy(), (p * steps).numpy()).pvalue > 0.01
