"""The batched engine against diffusers' own pipelines, one image at a time."""

from dataclasses import replace

import pytest
import torch

from sgid.generation.stable_diffusion import StableDiffusionEngine
from tests.data.writers import picture
from tests.generation import small_pipelines
from tests.generation.requests import (
    PROMPTS,
    difference,
    draw,
    key,
    reference,
    request,
    varied,
)

SCHEDULERS = [
    "DPMSolverMultistepScheduler",
    "DDIMScheduler",
    "EulerAncestralDiscreteScheduler",
    "UniPCMultistepScheduler",
]


# As the published models differ from Stable Diffusion 1.5. Turbo models are run without guidance.
V_PREDICTION = {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
TURBO = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}
KINDS = {
    "v_prediction": (small_pipelines.write_sd, V_PREDICTION, "DPMSolverMultistepScheduler"),
    "sd_turbo": (small_pipelines.write_sd, TURBO, "EulerAncestralDiscreteScheduler"),
    "sdxl": (small_pipelines.write_sdxl, {}, "EulerDiscreteScheduler"),
    "sdxl_not_zeros": (small_pipelines.write_sdxl, {"zeros": False}, "own"),
    "sdxl_shifted": (small_pipelines.write_sdxl, {"shifted": True}, "own"),
}


@pytest.fixture(scope="module")
def engine(make_engine):
    return make_engine()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Kind -> folder of a small pipeline."""
    top = tmp_path_factory.mktemp("pipelines")
    return {kind: write(top / kind, **options) for kind, (write, options, _) in KINDS.items()}


def make(folder, *, dtype=torch.float32, **options):
    settings = {"steps": 4, "scheduler": "own", "resolution": 32, "batch_size": 16}
    return StableDiffusionEngine(
        folder, device=torch.device("cpu"), dtype=dtype, **{**settings, **options}
    )


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_mixed_batches_are_what_diffusers_gives_one_by_one(make_engine, scheduler):
    images = draw(make_engine(scheduler=scheduler), varied())
    for one in varied():
        expected = reference(one, steps=6, scheduler=scheduler)
        assert difference(images[key(one)], expected) <= 1, one


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_text_to_image_is_what_diffusers_gives(make_engine, scheduler):
    requests = [
        request(i, init=None, strength=1.0, scale=scale, prompt=PROMPTS[i % 3])
        for i, scale in enumerate((7.5, 1.0, 3.0))
    ]
    images = draw(make_engine(scheduler=scheduler, steps=4), requests)
    for one in requests:
        assert difference(images[key(one)], reference(one, steps=4, scheduler=scheduler)) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_what_diffusers_gives_one_by_one(folders, kind):
    folder, scheduler = folders[kind], KINDS[kind][2]
    requests = [
        request(20 + i, init=None, strength=1.0, scale=scale, prompt=PROMPTS[i % 3])
        for i, scale in enumerate((7.5, 1.0, 3.0))
    ]
    requests += varied(8)
    if "turbo" in kind:
        requests = [replace(one, guidance_scale=1.0) for one in requests]
    images = draw(make(folder, scheduler=scheduler), requests)
    for one in requests:
        expected = reference(one, folder=folder, steps=4, scheduler=scheduler)
        assert difference(images[key(one)], expected) <= 1, one


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_vae_of_xl_computes_in_float32(folders, dtype):
    """As diffusers' own pipeline has it, though in bfloat16 only for the encoder."""
    one = request(0, init=picture(0, 0, 32), strength=0.5)
    engine = make(folders["sdxl"], dtype=dtype)
    image = draw(engine, [one])["k0"]
    assert (engine.pipe.vae.dtype, engine.pipe.unet.dtype) == (torch.float32, dtype)
    if dtype == torch.float16:
        expected = reference(one, folder=folders["sdxl"], steps=4, dtype=dtype)
        assert difference(image, expected) <= 1


@pytest.mark.parametrize("turbo", [True, False])
def test_few_steps_start_from_pure_noise_only_if_trailing(folders, turbo):
    """What makes few steps work: the first one is at the last timestep of the training."""
    folder = folders["sd_turbo" if turbo else "v_prediction"]
    scheduler = make(folder, scheduler="EulerAncestralDiscreteScheduler").pipe.scheduler
    scheduler.set_timesteps(4)
    assert (scheduler.timesteps[0] == 999) == turbo


def inpainting(folder):
    small_pipelines.write_sd(folder)
    small_pipelines.edit_index(folder, _class_name="StableDiffusionInpaintPipeline")


def told_its_guidance(folder):
    small_pipelines.write_sd(folder)
    small_pipelines.edit_unet(folder, time_cond_proj_dim=8)


def refiner(folder):
    small_pipelines.write_sdxl(folder)
    named = "StableDiffusionXLImg2ImgPipeline"
    small_pipelines.edit_index(folder, _class_name=named, requires_aesthetics_score=True)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (inpainting, "holds a StableDiffusionInpaintPipeline"),
        (told_its_guidance, "is told its guidance scale"),
        (refiner, "is a refiner"),
    ],
)
def test_what_this_loop_would_draw_differently_is_refused(tmp_path, write, said):
    write(tmp_path / "pipeline")
    with pytest.raises(ValueError, match=f"{said}.*models=any"):
        make(tmp_path / "pipeline")


def test_an_image_depends_on_all_of_its_request(engine):
    one = request(0, init=picture(0, 0, 32), scale=7.5)
    others = [
        replace(one, prompt=PROMPTS[1]),
        replace(one, init_image=picture(1, 0, 32)),
        replace(one, strength=1.0),
        replace(one, guidance_scale=1.0),
        replace(one, guidance_scale=2.0),
        replace(one, seed=3),
    ]
    image = draw(engine, [one])["k0"]
    for other in others:
        assert difference(draw(engine, [other])["k0"], image) > 0, other


def test_batch_size_and_order_never_change_an_image(make_engine):
    requests = varied() + [request(90 + i, init=None, strength=1.0) for i in range(2)]
    images = [
        draw(make_engine(batch_size=size), order)
        for size, order in ((64, requests), (1, requests), (7, requests[::-1]))
    ]
    for one in requests:
        assert difference(images[0][key(one)], images[1][key(one)]) <= 1
        assert difference(images[0][key(one)], images[2][key(one)]) <= 1


def test_it_batches(make_engine):
    engine = make_engine(batch_size=5)
    sizes = []
    hook = engine.pipe.unet.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    scales = [2.0 + i / 10 for i in range(12)]
    draw(engine, [request(i, init=picture(i, 0, 32), scale=s) for i, s in enumerate(scales)])
    hook.remove()
    assert sorted(sizes) == sorted([10, 10, 4] * 3)  # both halves; int(6 steps * 0.5) steps


def test_without_guidance_the_unconditional_half_is_left_out(make_engine, monkeypatch):
    engine = make_engine()
    sizes = []
    hook = engine.pipe.unet.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    draw(engine, [request(i, init=picture(i, 0, 32), scale=1.0) for i in range(4)])
    hook.remove()
    assert sizes == [4, 4, 4]  # int(6 steps * 0.5)


def test_the_global_generator_is_left_alone(make_engine):
    engine = make_engine(scheduler="EulerAncestralDiscreteScheduler")
    before = torch.random.get_rng_state()
    draw(engine, [request(0, init=picture(0, 0, 32))])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_no_requests(engine):
    assert list(engine.generate([])) == []
