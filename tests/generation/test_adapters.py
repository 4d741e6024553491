"""Images drawn with learned tokens and LoRAs: alone, in mixed batches, and by diffusers itself."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sgid.generation.diffusers_pipeline import PipelineEngine
from sgid.models.lora import TOKENS
from sgid.records import Adapter
from tests.conftest import MODELS
from tests.data.writers import picture
from tests.generation.requests import difference, draw, key, request
from tests.models.test_lora import UNET, write_lora

LAYERS = tuple(
    (UNET.replace("attn2.to_k", layer), 96, inner)
    for layer, inner in (("attn1.to_q", 96), ("attn2.to_k", 64), ("attn2.to_v", 64))
)


@pytest.fixture(scope="module")
def engine(make_engine):
    return make_engine(steps=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two LoRAs and two files of tokens of the same names."""
    top = tmp_path_factory.mktemp("concepts")
    for seed in (1, 2):
        write_lora(top / f"{seed}.safetensors", seed=seed, layers=LAYERS)
        vectors = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(seed))
        names = {f"text_encoder/<class-{label}>": vectors[label] for label in range(2)}
        (top / f"tokens-{seed}").mkdir()
        save_file(names, top / f"tokens-{seed}" / TOKENS)
    return top


def mixed(folder: Path) -> list:
    """Without anything learned, with tokens, LoRAs, and both; no two neighbours alike."""
    tokens = [folder / f"tokens-{seed}" / TOKENS for seed in (1, 2)]
    loras = [Adapter(folder / f"{seed}.safetensors", 0.3) for seed in (1, 2)]
    kinds = [
        {},
        {"tokens": tokens[0], "prompt": "a photo of a <class-1>"},
        {"adapters": (loras[0],)},
        {"tokens": tokens[1], "prompt": "a photo of a <class-1>"},
        {"adapters": (loras[1], loras[0])},
        {"tokens": tokens[0], "prompt": "a dark <class-0>", "adapters": (loras[0],)},
        {"tokens": tokens[0], "prompt": "a photo of a <class-0>"},
    ]
    plain = [
        request(i, init=None if i % 3 == 2 else picture(i % 4, 0, 32), strength=1.0)
        for i in range(2 * len(kinds))
    ]
    return [replace(one, **kinds[i % len(kinds)]) for i, one in enumerate(plain)]


def test_an_image_is_the_same_alone_and_in_a_mixed_batch(engine, folder):
    requests = mixed(folder)
    together = draw(engine, requests)
    for one in requests:
        alone = draw(engine, [one])[key(one)]
        assert difference(alone, together[key(one)]) <= 1, one
    assert len({image.tobytes() for image in together.values()}) == len(requests)


def test_requests_without_concepts_are_drawn_as_if_there_had_never_been_any(
    engine, folder, make_engine
):
    plain = [one for one in mixed(folder) if not one.tokens and not one.adapters]
    draw(engine, mixed(folder))
    after = draw(engine, plain)
    fresh = draw(make_engine(steps=4), plain)
    assert {key: one.tobytes() for key, one in after.items()} == {
        key: one.tobytes() for key, one in fresh.items()
    }


def test_images_are_inverted_by_the_model_as_it_is(engine, folder, make_engine, fashion):
    """Whatever was drawn before, in this process, with LoRAs."""
    given = [fashion[0].image], ["a photo of a bag"]
    draw(engine, [one for one in mixed(folder) if one.adapters])
    fresh = make_engine(steps=4).invert(*given, steps=4)
    assert engine.invert(*given, steps=4).equal(fresh)


def test_images_are_what_diffusers_gives_with_its_own_loaders(engine, folder):
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForText2Image
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from safetensors.torch import load_file

    requests = mixed(folder)[1:7]
    images = draw(engine, requests)
    for one in requests:
        kind = AutoPipelineForImage2Image if one.init_image else AutoPipelineForText2Image
        pipe = kind.from_pretrained(MODELS / "sd", local_files_only=True)
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        if one.tokens:
            for name, vectors in load_file(one.tokens).items():
                pipe.load_textual_inversion({name.partition("/")[2]: vectors})
        names = [f"a{i}" for i in range(len(one.adapters))]
        for name, adapter in zip(names, one.adapters, strict=True):
            pipe.load_lora_weights(
                folder, weight_name=adapter.file.name, adapter_name=name, local_files_only=True
            )
        if names:  # as peft itself runs them, beside the weights
            pipe.set_adapters(names, [adapter.scale for adapter in one.adapters])
        where = {"height": 32, "width": 32}
        if one.init_image:
            where = {"image": one.init_image, "strength": one.strength}
        expected = pipe(
            one.prompt, **where, num_inference_steps=4, guidance_scale=one.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(one.seed),
        ).images[0]  # fmt: skip
        assert difference(images[key(one)], expected) <= 1, one


def test_tokens_leave_the_other_rows_of_the_embedding_as_they_are(engine, folder):
    embedding = engine.pipe.text_encoder.get_input_embeddings()
    engine.concepts.use((None, ()))
    before, tokenizer = embedding.weight.clone(), engine.pipe.tokenizer
    for seed in (1, 2, 1):
        engine.concepts.use((folder / f"tokens-{seed}" / TOKENS, ()))
        assert torch.equal(embedding.weight[: len(before)], before)
        assert len(embedding.weight) == len(before) + 6
    engine.concepts.use((None, ()))
    assert torch.equal(embedding.weight, before) and engine.pipe.tokenizer is tokenizer


@pytest.mark.parametrize("kind", ["stable_diffusion", "any"])
def test_loras_of_the_users_own_are_in_every_image(engine, folder, make_engine, kind):
    lora = [Adapter(folder / "1.safetensors", 0.3)]
    one = replace(request(0, init=picture(0, 0, 32), strength=1.0))
    expected = draw(engine, [replace(one, adapters=tuple(lora))])
    if kind == "any":
        merged = PipelineEngine(
            MODELS / "sd", steps=4, scheduler="DPMSolverMultistepScheduler", resolution=32,
            batch_size=4, device=torch.device("cpu"), dtype=torch.float32, lora=lora,
        )  # fmt: skip
        with pytest.raises(ValueError, match="which models=any cannot"):
            draw(merged, [replace(one, adapters=tuple(lora))])
    else:
        merged = make_engine(steps=4, lora=lora)
    assert difference(draw(merged, [one])["k0"], expected["k0"]) <= 1
    assert difference(draw(engine, [one])["k0"], expected["k0"]) > 1


def test_classes_with_tokens_of_their_own_share_a_batch(make_engine, folder):
    engine, sizes = make_engine(steps=2), []
    begin = engine._draw

    def noted(batch, *rest):
        sizes.append(len(batch))
        return begin(batch, *rest)

    engine._draw = noted
    tokens = folder / "tokens-1" / TOKENS
    loras = [Adapter(folder / f"{seed}.safetensors") for seed in (1, 2)]
    plain = [request(i, init=None, strength=1.0) for i in range(4)]
    draw(
        engine,
        [replace(one, tokens=tokens, prompt=f"a <class-{i % 2}>") for i, one in enumerate(plain)],
    )
    assert sizes == [4]
    draw(engine, [replace(one, adapters=(loras[i % 2],)) for i, one in enumerate(plain)])
    assert sizes == [4, 2, 2]  # LoRAs change the weights, and so have batches of their own
