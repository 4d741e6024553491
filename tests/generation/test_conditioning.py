"""Image prompts, edges and edits: alone, in mixed batches, and by diffusers' own pipelines."""

import itertools
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from transformers import CLIPVisionModelWithProjection

from sgid.generation.diffusers_pipeline import PipelineEngine
from sgid.generation.stable_diffusion import StableDiffusionEngine
from sgid.methods.conditioning import canny
from sgid.records import Adapter, EdgeMap, ImagePrompt
from tests.conftest import MODELS
from tests.data.writers import picture
from tests.generation.requests import PROMPTS, difference, draw, key, request
from tests.generation.small_conditions import (
    write_controlnet,
    write_editor,
    write_image_encoder,
    write_ip_adapter,
)
from tests.generation.small_pipelines import write_sdxl
from tests.generation.test_adapters import LAYERS
from tests.models.test_lora import write_lora

SCHEDULER = "DPMSolverMultistepScheduler"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An image encoder, adapters of two kinds, ControlNets, an SDXL and an InstructPix2Pix."""
    top = tmp_path_factory.mktemp("conditions")
    write_image_encoder(top / "image_encoder")
    for kind in ("plain", "plus"):
        write_ip_adapter(top / f"{kind}.safetensors", MODELS / "sd", kind=kind)
    write_lora(top / "lora.safetensors", seed=1, layers=LAYERS)
    write_controlnet(top / "controlnet", MODELS / "sd")
    write_sdxl(top / "sdxl")
    write_ip_adapter(top / "xl.safetensors", top / "sdxl")
    write_controlnet(top / "xl_controlnet", top / "sdxl", halvings=1)
    write_editor(top / "editor")
    return top


def conditions(folder: Path, adapter: str = "plain") -> dict[str, Any]:
    return {
        "ip_adapter": folder / f"{adapter}.safetensors",
        "image_encoder": folder / "image_encoder",
        "controlnet": folder / ("xl_controlnet" if adapter == "xl" else "controlnet"),
    }


@pytest.fixture(scope="module")
def engine(make_engine, folder):
    return make_engine(steps=4, **conditions(folder))


def edges(index: int, scale: float) -> EdgeMap:
    return EdgeMap(f"e{index}", canny(picture(index, 0, 32), 20, 60), scale)


def mixed(folder: Path | None = None) -> list:
    """With and without image prompts and edges, from noise and from images; no two alike.

    With the `folder` of a LoRA, the last one is drawn with that as well.
    """
    prompts = [ImagePrompt(f"p{i}", picture(i, 1, 32 + i), (0.3, 0.8, 1.0)[i]) for i in range(3)]
    kinds = [
        {},
        {"image_prompt": prompts[0]},
        {"edges": edges(0, 0.75)},
        {"image_prompt": prompts[1]},
        {"image_prompt": prompts[2], "edges": edges(1, 1.5)},
        {"edges": edges(2, 0.4), "negative_prompt": "blurry"},
        {"image_prompt": replace(prompts[0], scale=0.9), "negative_prompt": "dark"},
    ]
    starts = [None, picture(3, 0, 32), None]
    requests = [
        replace(
            request(i, init=starts[i % 3], strength=1.0 if i % 3 != 1 else 0.5,
                    scale=(5.0, 1.0)[i % 5 == 4], prompt=PROMPTS[i % 3]),
            **kinds[i % len(kinds)],
        )
        for i in range(2 * len(kinds))
    ]  # fmt: skip
    if folder is not None:
        lora = Adapter(folder / "lora.safetensors", 0.5)
        requests[-1] = replace(requests[-1], adapters=(lora,))
    return requests


@cache
def pipeline(kind: str, model: Path, controlnet: Path | None) -> Any:
    more = {"controlnet": ControlNetModel.from_pretrained(controlnet)} if controlnet else {}
    pipe = getattr(diffusers, kind).from_pretrained(model, local_files_only=True, **more)
    pipe.scheduler = getattr(diffusers, SCHEDULER).from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def reference(one: Any, folder: Path, adapter: str) -> Any:
    """What diffusers gives, with its own loader, scale and ControlNet pipelines."""
    given, xl = conditions(folder, adapter), "XL" if adapter == "xl" else ""
    kind = f"{'ControlNet' if one.edges else ''}{'Img2Img' if one.init_image else ''}"
    pipe = pipeline(
        f"StableDiffusion{xl}{kind}Pipeline", folder / "sdxl" if xl else MODELS / "sd",
        given["controlnet"] if one.edges else None,
    )  # fmt: skip
    where = {} if one.init_image and not one.edges else {"height": 32, "width": 32}
    if one.image_prompt:
        encoder = CLIPVisionModelWithProjection.from_pretrained(given["image_encoder"])
        pipe.register_modules(image_encoder=encoder)
        pipe.load_ip_adapter(folder, subfolder="", weight_name=f"{adapter}.safetensors")
        pipe.set_ip_adapter_scale(one.image_prompt.scale)
        where["ip_adapter_image"] = one.image_prompt.image
    if one.init_image:
        where |= {"image": one.init_image, "strength": one.strength}
    if one.edges:
        name = "control_image" if one.init_image else "image"
        where |= {name: one.edges.image, "controlnet_conditioning_scale": one.edges.scale}
    for adapter in one.adapters:
        pipe.load_lora_weights(folder, weight_name=adapter.file.name, adapter_name="own")
        pipe.set_adapters(["own"], [adapter.scale])
    image = pipe(
        one.prompt, **where, negative_prompt=one.negative_prompt or None, num_inference_steps=4,
        guidance_scale=one.guidance_scale, generator=torch.Generator("cpu").manual_seed(one.seed),
    ).images[0]  # fmt: skip
    if one.adapters:
        pipe.unload_lora_weights()
    if one.image_prompt:
        pipe.unload_ip_adapter()
    return image


def test_an_image_is_the_same_alone_and_in_a_mixed_batch(engine, folder):
    requests = mixed(folder)
    together = draw(engine, requests)
    for one in requests:
        assert difference(draw(engine, [one])[key(one)], together[key(one)]) <= 1, one
    assert len({image.tobytes() for image in together.values()}) == len(requests)


@pytest.mark.parametrize("adapter", ["plain", "plus", "xl"])
def test_images_are_what_diffusers_gives_one_by_one(folder, adapter):
    requests = mixed(folder) if adapter == "plain" else mixed()[3:8]
    engine = StableDiffusionEngine(
        folder / "sdxl" if adapter == "xl" else MODELS / "sd", steps=4, scheduler=SCHEDULER,
        resolution=32, batch_size=8, device=torch.device("cpu"), dtype=torch.float32,
        **conditions(folder, adapter),
    )  # fmt: skip
    images = draw(engine, requests)
    for one in requests:
        assert difference(images[key(one)], reference(one, folder, adapter)) <= 1, one


@pytest.mark.parametrize("deep_cache", [1, 2])
def test_a_scale_of_0_is_as_none_and_a_larger_one_draws_another_image(
    folder, make_engine, deep_cache
):
    given = conditions(folder)
    given["controlnet"] = None
    engine = make_engine(steps=4, deep_cache=deep_cache, **given)
    prompt = ImagePrompt("p", picture(1, 1, 32), 0.0)
    plain = [request(i, init=None, strength=1.0) for i in range(2)]
    none = draw(engine, plain)
    zero = draw(engine, [replace(one, image_prompt=prompt) for one in plain])
    some = draw(engine, [replace(one, image_prompt=replace(prompt, scale=0.1)) for one in plain])
    other = replace(prompt, scale=0.1, image=picture(2, 1, 32))
    others = draw(engine, [replace(one, image_prompt=other) for one in plain])
    for one in none:
        assert zero[one].tobytes() == none[one].tobytes()
        assert difference(some[one], none[one]) > 0 < difference(some[one], others[one])


def test_edges_of_a_scale_of_0_are_as_none(engine):
    plain = request(0, init=None, strength=1.0)
    none, zero, some = (
        draw(engine, [replace(plain, edges=one)])["k0"]
        for one in (None, edges(0, 0.0), edges(0, 0.3))
    )
    assert difference(none, zero) <= 1 < difference(none, some)


def test_what_is_drawn_without_conditions_is_as_if_there_were_none(engine, make_engine):
    plain = [one for one in mixed() if not one.image_prompt and not one.edges]
    draw(engine, mixed())
    after, fresh = draw(engine, plain), draw(make_engine(steps=4), plain)
    assert [after[one].tobytes() for one in fresh] == [one.tobytes() for one in fresh.values()]


def test_images_with_scales_of_their_own_share_a_batch(engine):
    sizes = []
    hook = engine.pipe.unet.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    requests = [
        replace(
            request(i, init=None, strength=1.0, scale=3.0 + i),
            image_prompt=ImagePrompt(f"p{i % 2}", picture(i % 2, 1, 32), i / 4),
            edges=edges(i % 2, 0.5 + i / 4),
        )
        for i in range(4)
    ]
    encoded = []
    encoder = engine.pipe.image_encoder.register_forward_pre_hook(
        lambda _, args: encoded.append(len(args[0]))
    )
    draw(engine, requests)
    hook.remove()
    encoder.remove()
    assert sizes == [8] * 4
    assert encoded[0] == 2  # equal images are encoded once, in one batch


def test_edges_say_how_large_an_image_is(engine):
    wide = EdgeMap("e", canny(picture(0, 0, 48).crop((0, 0, 48, 24)), 20, 60), 1.0)
    image = draw(engine, [replace(request(0, init=None, strength=1.0), edges=wide)])["k0"]
    assert image.size == (48, 24)


def test_a_look_ahead_has_the_conditions_of_its_rows(engine):
    requests = [one for one in mixed() if one.image_prompt and one.edges and not one.init_image]
    seen = {}

    def look(state):
        if state.done == 2:
            for row, one in enumerate(state.requests):
                seen.setdefault(key(one), []).append(
                    state.go_on(state.latents[row : row + 1], slice(row, row + 1), 2)
                )

    list(engine.generate(requests, look))
    for one in requests:
        list(engine.generate([one], look))
    assert seen and all(torch.allclose(*two, atol=1e-4) for two in seen.values())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image_prompt": ImagePrompt("p", picture(0, 0, 32), 0.5)}, "ip_adapter=FILE"),
        ({"edges": edges(0, 1.0)}, "controlnet=FOLDER"),
        ({"image_guidance_scale": 1.5}, "models=instruct_pix2pix"),
    ],
)
def test_an_engine_without_the_model_says_so(make_engine, given, said):
    with pytest.raises(ValueError, match=said):
        draw(make_engine(), [replace(request(0, init=picture(0, 0, 32)), **given)])


def edits(count: int = 6) -> list:
    """Edits of two sizes and many scales, some of which leave guidance out."""
    sources = [picture(0, 0, 32), picture(1, 0, 40).crop((0, 0, 24, 40)), picture(2, 0, 32)]
    scales = itertools.cycle([(5.0, 1.2), (7.5, 2.0), (1.0, 1.5), (3.0, 0.5)])
    return [
        replace(
            request(i, init=sources[i % 3], strength=1.0, scale=text, prompt=PROMPTS[i % 3]),
            image_guidance_scale=image, negative_prompt="blurry" * (i % 2),
        )
        for i, (text, image) in zip(range(count), scales, strict=False)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def editor(folder):
    return StableDiffusionEngine(
        folder / "editor", steps=4, scheduler=SCHEDULER, resolution=32, batch_size=8,
        device=torch.device("cpu"), dtype=torch.float32,
    )  # fmt: skip


def test_edits_are_what_diffusers_gives_one_by_one(editor, folder):
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(folder / "editor")
    pipe.scheduler = getattr(diffusers, SCHEDULER).from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    together = draw(editor, edits())
    for one in edits():
        assert difference(draw(editor, [one])[key(one)], together[key(one)]) <= 1
        expected = pipe(
            one.prompt, image=one.init_image, guidance_scale=one.guidance_scale,
            image_guidance_scale=one.image_guidance_scale, num_inference_steps=4,
            negative_prompt=one.negative_prompt or None,
            generator=torch.Generator("cpu").manual_seed(one.seed),
        ).images[0]  # fmt: skip
        assert difference(together[key(one)], expected) <= 1, one


@pytest.mark.parametrize(
    "given", [{"image_guidance_scale": None}, {"strength": 0.5}, {"init_image": None}]
)
def test_an_editor_does_nothing_else(editor, given):
    with pytest.raises(ValueError, match="models=instruct_pix2pix|from noise alone"):
        draw(editor, [replace(edits(1)[0], **given)])


def test_other_pipelines_have_none_of_it():
    engine = PipelineEngine(
        MODELS / "sd", steps=4, scheduler="own", resolution=32, batch_size=2,
        device=torch.device("cpu"), dtype=torch.float32,
    )  # fmt: skip
    one = request(0, init=picture(0, 0, 32), strength=1.0)
    for given in ({"edges": edges(0, 1.0)}, {"image_guidance_scale": 1.2}):
        with pytest.raises(ValueError, match="along edges or edits images, which models=any"):
            draw(engine, [replace(one, **given)])
