"""Latent hooks: they see a batch after each step, may change it, and no image depends on others."""

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from sgid.generation.hooks import predicted_original
from tests.data.writers import picture
from tests.generation.requests import draw, request


@pytest.fixture(scope="module")
def engine(make_engine):
    return make_engine(batch_size=4)


def requests(count=4):
    scales = (1.0, 5.0, 0.0, 7.5)
    return [request(i, init=picture(i, 0, 32), scale=scales[i % 4]) for i in range(count)]


def images(engine, some, hook=None):
    drawn = engine.generate(some, hook)
    return {one.request.described.key: one.image.tobytes() for one in drawn}


def test_a_hook_sees_every_step_and_may_leave_all_as_it_is(engine):
    seen = []

    def look(state):
        assert len(state.requests) == len(state.latents) == len(state.predict())
        seen.append(round(state.progress, 3))

    plain = {key: image.tobytes() for key, image in draw(engine, requests()).items()}
    assert images(engine, requests(), look) == plain
    assert set(seen) == {0.333, 0.667, 1.0}  # 6 steps at strength 0.5


def test_the_last_prediction_is_what_is_decoded(engine):
    last = {}

    def look(state):
        if state.progress == 1:
            last["off"] = (state.predict() - state.latents).abs().max()

    images(engine, requests(2), look)
    assert last["off"] < 1e-4


def towards_white(state):
    """A gradient step on the clean latents that makes each image whiter."""
    if state.progress < 1:
        return None
    with torch.enable_grad():
        latents = state.latents.detach().clone().requires_grad_()
        white = state.decode(latents).sum()
        (gradient,) = torch.autograd.grad(white, latents)
    return state.latents + 0.1 * gradient.sign()


def test_a_gradient_through_the_decoder_alone_or_in_a_batch(engine):
    plain, changed = images(engine, requests()), images(engine, requests(), towards_white)
    for key, image in changed.items():
        assert sum(image) > sum(plain[key])
    for one in requests():
        alone = images(engine, [one], towards_white)[one.described.key]
        batch = changed[one.described.key]
        assert max(abs(a - b) for a, b in zip(alone, batch, strict=True)) <= 1


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_predicted_originals_are_those_of_diffusers(prediction):
    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=False)
    scheduler.set_timesteps(10)
    generator = torch.Generator().manual_seed(0)
    latents, output = (torch.randn(2, 4, 8, 8, generator=generator) for _ in range(2))
    for t in scheduler.timesteps[[0, 5, 9]]:
        expected = scheduler.step(output, t, latents).pred_original_sample
        torch.testing.assert_close(predicted_original(scheduler, output, t, latents), expected)


def test_schedulers_of_other_latents_are_refused():
    scheduler = DPMSolverMultistepScheduler()
    scheduler.init_noise_sigma = 14.6
    with pytest.raises(ValueError, match="scheduler=DPMSolverMultistepScheduler: .* DDIMScheduler"):
        predicted_original(scheduler, *[torch.zeros(1)] * 3)
