"""Inversion against diffusers' own scheduler, prompt schedules, and two prompts by a mask."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sgid.generation.denoising import encode_prompts
from sgid.records import Blend, Later
from tests.data.writers import picture
from tests.generation.requests import PROMPTS, request


@pytest.fixture(scope="module")
def engine(make_engine):
    return make_engine(batch_size=4, scheduler="DDIMScheduler", steps=20)


def drawn(engine, *requests):
    made = {one.request.described.key: one.image for one in engine.generate(requests)}
    return [np.asarray(made[one.described.key], np.int16) for one in requests]


def test_inversion_is_ddim_turned_round(engine):
    """Each step keeps the noise that is predicted, and raises its share (Song et al., eq. 12)."""
    image, steps = picture(0, 0, 32), 5
    found = engine.invert([image], PROMPTS[:1], steps=steps)
    pipe, (text,) = engine.pipe, encode_prompts(engine.pipe, PROMPTS[:1])
    alphas = pipe.scheduler.alphas_cumprod
    latents = engine.autoencoder.mean_latents(engine.autoencoder.posteriors([image]))
    with torch.inference_mode():
        for t in range(1, 1000, 1000 // steps):
            before, after = alphas[max(t - 1000 // steps, 0)], alphas[t]
            noise = pipe.unet(latents, t, encoder_hidden_states=text.prompt_embeds[None]).sample
            clean = (latents - (1 - before).sqrt() * noise) / before.sqrt()
            latents = after.sqrt() * clean + (1 - after).sqrt() * noise
    torch.testing.assert_close(found, latents, atol=1e-4, rtol=1e-3)


def test_what_was_inverted_is_drawn_again(engine, fashion):
    some = [fashion[0], fashion[-1]]
    prompts = [f"a photo of a {one.class_name}" for one in some]
    latents = engine.invert([one.image for one in some], prompts, steps=20)
    plain = [request(i, init=None, prompt=prompts[i], scale=1.0) for i in range(2)]
    again = [replace(one, start=latents[i].numpy()) for i, one in enumerate(plain)]
    originals = [np.asarray(one.image, np.int16) for one in some]
    off, other = (
        [np.abs(one - image).mean() for one, image in zip(made, originals, strict=True)]
        for made in (drawn(engine, *again), drawn(engine, *plain))
    )
    assert off[0] < other[0] and off[1] < other[1]  # nearer than from a random start


def test_a_prompt_schedule_ends_in_either_prompt(engine):
    one, two = (request(0, init=None, prompt=prompt) for prompt in PROMPTS[:2])
    first, second = drawn(engine, one)[0], drawn(engine, two)[0]
    at = {
        share: drawn(engine, replace(one, later=Later(share, PROMPTS[1])))[0]
        for share in (0.0, 0.3, 1.0)
    }
    np.testing.assert_array_equal(at[1.0], first)
    np.testing.assert_array_equal(at[0.0], second)
    assert (at[0.3] != first).any() and (at[0.3] != second).any()


def test_a_blend_follows_each_prompt_in_its_part(engine):
    one, two = (request(0, init=None, prompt=prompt) for prompt in PROMPTS[:2])
    first, second = drawn(engine, one)[0], drawn(engine, two)[0]
    for value, alone in ((1, first), (0, second)):
        mask = np.full((64, 64), value, np.float32)
        whole = drawn(engine, replace(one, blend=Blend(PROMPTS[1], mask)))[0]
        assert np.abs(whole - alone).max() <= 1
    mask = np.zeros((64, 64), np.float32)
    mask[:, :32] = 1
    mixed, unguided = (
        drawn(engine, replace(one, blend=Blend(PROMPTS[1], mask), guidance_scale=scale))[0]
        for scale in (5.0, 1.0)
    )
    assert (mixed != first).any() and (mixed != second).any() and (mixed != unguided).any()
    # One batch of blends and plain requests: each as alone.
    both = drawn(engine, replace(one, blend=Blend(PROMPTS[1], mask)), request(1, init=None))
    assert np.abs(both[0] - mixed).max() <= 1


def test_a_look_ahead_is_what_the_denoiser_does(make_engine):
    """With DDIM the look ahead is the scheduler's own way, so both predict the same image."""
    engine, seen = make_engine(scheduler="DDIMScheduler", steps=8), {}
    one = request(0, init=picture(0, 0, 32), strength=1.0)

    def look(state):
        if state.done == 3:
            seen["ahead"] = state.go_on(state.latents, slice(0, 1), 2)
        if state.done == 5:
            seen["then"] = state.predict()

    list(engine.generate([one], look))
    torch.testing.assert_close(seen["ahead"], seen["then"], atol=1e-4, rtol=1e-3)
