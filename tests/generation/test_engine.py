"""What overflows a narrow format is what the engine gives in float32; its neighbours stay."""

import gc
import warnings
import weakref

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sgid.generation.diffusers_pipeline import PipelineEngine
from sgid.generation.engine import redrawn
from sgid.generation.stable_diffusion import StableDiffusionEngine
from tests.conftest import MODELS
from tests.data.writers import picture
from tests.generation import small_pipelines
from tests.generation.requests import difference, draw, key, reference, request, varied

HALF, SINGLE = torch.float16, torch.float32
STEPS = 2
ENGINES = [StableDiffusionEngine, PipelineEngine]


def make(kind, folder, dtype, **options):
    settings = {"steps": STEPS, "scheduler": "own", "resolution": 32, "batch_size": 4}
    return kind(folder, device=torch.device("cpu"), dtype=dtype, **{**settings, **options})


def changed(folder, part, *, by, name="conv_in"):
    """`folder` with the weights that begin with `name` as `by` makes them."""
    (file,) = (folder / part).glob("*.safetensors")
    tensors = load_file(file)
    tensors |= {key: by(value) for key, value in tensors.items() if key.startswith(name)}
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory):
    """Models that pass what float16 holds with some images: in the VAE, and XL's in the UNet.

    All that they make large is normalised later, so that float32 draws as if it were not.
    """
    top = tmp_path_factory.mktemp("pipelines")
    sd, xl = small_pipelines.write_sd(top / "sd"), small_pipelines.write_sdxl(top / "xl")
    return {
        "sd": changed(sd, "vae", name="decoder.conv_in", by=lambda weight: 10_000 * weight),
        "xl": changed(xl, "unet", by=lambda weight: 5_000 * weight),
    }


def some():
    from_text = [request(20 + i, init=None, strength=1.0, scale=7.5 - 2 * i) for i in range(4)]
    return varied(8) + from_text


def said(caplog):
    return [one.getMessage() for one in caplog.records if one.name == "sgid.generation.engine"]


@pytest.mark.parametrize(
    ("kind", "name", "threads"),
    [
        (StableDiffusionEngine, "sd", 2),  # several batches at once
        (StableDiffusionEngine, "xl", 1),
        (PipelineEngine, "xl", 1),
    ],
)
def test_what_overflows_is_drawn_again_in_float32(overflowing, caplog, kind, name, threads):
    engine, requests = make(kind, overflowing[name], HALF), some()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        plain = {key(one): image for one, image in engine.draw(requests)}
        made = {key(one.request): one for one in engine.generate(requests)}
        exact = draw(make(kind, overflowing[name], SINGLE, batch_size=1), requests)
    finally:
        torch.set_num_threads(before)
    broken = {name for name, image in plain.items() if image is None}
    assert 0 < len(broken) < len(requests) and made.keys() == plain.keys()
    for name, one in made.items():
        again = name in broken
        assert one.image.tobytes() == (exact if again else plain)[name].tobytes(), name
        assert one.dtype == ("float32" if again else "float16")
    assert said(caplog) == [
        f"{len(broken)} of 12 images drawn again in float32: not finite or black in float16"
    ]


def test_diffusers_makes_the_image_again_in_the_format_that_its_row_tells(overflowing):
    for one in make(StableDiffusionEngine, overflowing["sd"], HALF).generate(varied(8)):
        dtype = getattr(torch, one.dtype)
        expected = reference(one.request, steps=STEPS, folder=overflowing["sd"], dtype=dtype)
        assert difference(one.image, expected) <= 1


@pytest.mark.parametrize("kind", ENGINES)
def test_the_engine_is_afterwards_what_it_was(overflowing, kind):
    engine, requests = make(kind, overflowing["sd"], HALF), some()
    first = draw(engine, requests)
    pipe = engine.pipe if kind is StableDiffusionEngine else engine.loaded
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    assert {tensor.dtype for part in parts for tensor in part.parameters()} == {HALF}
    again = draw(engine, requests)
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)


def test_the_second_model_is_let_go(overflowing):
    engine = make(StableDiffusionEngine, overflowing["sd"], HALF, deep_cache=2)
    held, load = [], engine.in_float32

    def watched(**options):
        second = load(**options)
        held.append(weakref.ref(second.pipe.unet))
        return second

    engine.in_float32 = watched
    gc.disable()
    try:
        draw(engine, varied(8))
        assert len(held) == 1 and held[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ENGINES)
def test_in_float32_nothing_is_drawn_again(overflowing, kind, caplog):
    engine = make(kind, overflowing["sd"], SINGLE)
    engine.in_float32 = None
    assert {one.dtype for one in engine.generate(varied(8))} == {"float32"}
    assert said(caplog) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, SINGLE])
@pytest.mark.parametrize("kind", ENGINES)
def test_what_is_not_finite_in_float32_either_is_an_error(tmp_path, kind, dtype):
    folder = small_pipelines.write_sd(tmp_path / "sd")
    changed(folder, "unet", name="conv_out", by=lambda weight: weight * float("nan"))
    engine = make(kind, folder, dtype)
    with warnings.catch_warnings(), pytest.raises(ValueError) as told:
        warnings.simplefilter("error", RuntimeWarning)  # as of what is no number made black
        list(engine.generate([request(3, init=picture(3, 0, 32), scale=5.0)]))
    said = str(told.value)
    assert said.startswith("k3, repeat 0, prompt 'a photo of a bag': not finite, in float32")
    assert "noise_rate=0.5" in said and f"{folder} may be damaged" in said
    assert "guidance.max" in said and "models.generator.scheduler" in said


@pytest.mark.parametrize("kind", ENGINES)
def test_what_is_black_in_float32_too_is_kept_and_told(tmp_path, kind, caplog):
    folder = small_pipelines.write_sd(tmp_path / "sd")
    changed(folder, "vae", name="decoder.conv_out.bias", by=lambda bias: bias - 1000)
    (made,) = make(kind, folder, HALF).generate([request(3, init=picture(3, 0, 32))])
    assert made.image.getbbox() is None and made.dtype == "float32"
    assert said(caplog) == [
        "1 of 1 images drawn again in float32: not finite or black in float16",
        "k3, repeat 0, prompt 'a photo of a bag': black in float32 too, and kept",
    ]
    caplog.clear()
    (made,) = make(kind, folder, SINGLE).generate([request(3, init=picture(3, 0, 32))])
    assert (made.dtype, said(caplog)) == ("float32", [])


REQUESTS = [request(i, init=None) for i in range(4)]
RED, BLACK = Image.new("RGB", (2, 2), (1, 0, 0)), Image.new("RGB", (2, 2))


def drawn(*images):
    yield from zip(REQUESTS, images, strict=False)


def finished(images, exactly):
    return redrawn(
        drawn(*images), asked=len(images), dtype=HALF, exactly=exactly, weights=MODELS / "sd"
    )


def test_black_is_drawn_again_and_all_that_is_not_quite_black_is_not():
    asked = []

    def exactly(some):
        asked.extend(some)
        yield from ((one, RED) for one in some)

    made = list(finished([RED, BLACK, None, RED], exactly))
    assert asked == REQUESTS[1:3]
    assert [one.dtype for one in made] == ["float16"] * 2 + ["float32"] * 2
    assert [one.request for one in made] == [REQUESTS[i] for i in (0, 3, 1, 2)]


def test_no_memory_for_the_second_model():
    def exactly(some):
        torch.empty(2**50)
        yield from ((one, RED) for one in some)

    made = finished([RED, None], exactly)
    assert next(made).image is RED
    with pytest.raises(ValueError, match=r"1 of 2 images .* models\.generator\.dtype=bfloat16"):
        next(made)


def test_who_wants_no_more_images_ends_what_draws_them():
    source = drawn(RED, RED, RED)
    made = redrawn(source, asked=3, dtype=HALF, exactly=drawn, weights=MODELS)
    next(made)
    made.close()
    assert next(source, None) is None


def test_infinite_latents_are_seen_though_a_tiny_vae_makes_finite_pixels_of_them():
    from diffusers import AutoencoderTiny

    engine = make(StableDiffusionEngine, MODELS / "sd", SINGLE)
    torch.manual_seed(0)
    tiny = AutoencoderTiny(latent_channels=8).eval()
    engine.autoencoder.decoder = tiny
    latents = torch.randn(3, 8, 4, 4)
    latents[1, 0, 0, 0] = float("inf")
    with torch.inference_mode():
        assert tiny.decode(latents).sample.isfinite().all()
        images = engine.autoencoder.decode(latents)()
    assert [image is None for image in images] == [False, True, False]
