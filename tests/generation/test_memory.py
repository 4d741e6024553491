"""Memory that runs out: smaller batches of the same images, or what to change."""

import pytest
import torch

from sgid.runtime.batching import DoesNotFit
from tests.data.writers import picture
from tests.generation.requests import PROMPTS, difference, draw, request


def test_out_of_memory_halves_the_batch_for_good(make_engine, monkeypatch):
    engine = make_engine(batch_size=8)
    requests = [request(i, init=picture(i, 0, 32)) for i in range(8)]
    expected = draw(engine, requests)
    original, sizes = engine.denoise, []

    def small_device(latents, *rest, **more):
        sizes.append(len(latents))
        if len(latents) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(latents, *rest, **more)

    small_device.schedule = original.schedule
    monkeypatch.setattr(engine, "denoise", small_device)
    images = draw(engine, requests)
    assert sizes == [8, 4, 2, 2, 2, 2] and engine.batches.size == 2
    assert all(difference(images[name], expected[name]) <= 1 for name in expected)


@pytest.mark.parametrize("part", ["text_encoder", "vae"])
def test_out_of_memory_for_prompts_or_originals_halves_the_batch_too(make_engine, part):
    engine = make_engine(batch_size=8)
    requests = [request(i, init=picture(i, 0, 32), prompt=f"{PROMPTS[0]} {i}") for i in range(8)]
    expected = draw(engine, requests)
    engine.known.forget()
    module = engine.pipe.vae.encoder if part == "vae" else engine.pipe.text_encoder

    def small_device(_, given, named):
        if len(given[0] if given else named["input_ids"]) > 2:
            torch.empty(2**50)

    hook = module.register_forward_pre_hook(small_device, with_kwargs=True)
    images = draw(engine, requests)
    hook.remove()
    assert engine.batches.size == 2
    assert all(difference(images[name], expected[name]) <= 1 for name in expected)


def test_out_of_memory_for_a_single_image(make_engine, monkeypatch):
    engine = make_engine()

    def no_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    no_memory.schedule = engine.denoise.schedule
    monkeypatch.setattr(engine, "denoise", no_memory)
    with pytest.raises(DoesNotFit, match=r"take models\.generator\.memory=low, a smaller"):
        draw(engine, [request(i, init=picture(i, 0, 32)) for i in range(4)])
