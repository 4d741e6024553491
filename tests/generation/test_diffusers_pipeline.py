"""Any pipeline against diffusers' own call of it, one image at a time."""

from dataclasses import replace

import pytest
import torch

from sgid.generation.diffusers_pipeline import Painter, PipelineEngine
from tests.conftest import MODELS
from tests.data.writers import picture
from tests.generation import small_pipelines
from tests.generation.requests import PROMPTS, difference, draw, key, reference, request


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    return small_pipelines.write_sd3(tmp_path_factory.mktemp("pipelines") / "sd3")


def make(folder=MODELS / "sd", **options):
    place = {"device": torch.device("cpu"), "dtype": torch.float32}
    settings = {"steps": 3, "scheduler": "own", "resolution": 32, "batch_size": 16}
    return PipelineEngine(folder, **place, **{**settings, **options})


def mixed(count=8):
    """From images of two sizes and from text, with several strengths and guidance scales."""
    sources = (picture(0, 0, 32), picture(1, 0, 32), picture(0, 1, 40).crop((0, 0, 24, 40)), None)
    return [
        request(
            i,
            init=sources[i % 4],
            strength=(1.0, 0.5)[i // 4 % 2] if sources[i % 4] else 1.0,
            scale=(3.0, 1.0)[i // 8 % 2],
            prompt=PROMPTS[i % 3],
        )
        for i in range(count)
    ]


def said(caplog):
    """What this project told, whatever the libraries did."""
    return [record for record in caplog.records if record.name.startswith("sgid")]


@pytest.mark.parametrize("scheduler", ["own", "EulerAncestralDiscreteScheduler"])
def test_stable_diffusion_is_what_diffusers_gives_one_by_one(scheduler):
    images = draw(make(scheduler=scheduler), mixed(12))
    for one in mixed(12):
        assert difference(images[key(one)], reference(one, steps=3, scheduler=scheduler)) <= 1, one


def test_a_flow_matching_transformer_is_what_diffusers_gives_one_by_one(sd3):
    images = draw(make(sd3), mixed(12))
    for one in mixed(12):
        assert difference(images[key(one)], reference(one, steps=3, folder=sd3)) <= 1, one


def test_an_image_depends_on_all_of_its_request(sd3):
    engine = make(sd3)
    one = request(0, init=picture(0, 0, 32), strength=0.5, scale=3.0)
    others = [
        replace(one, prompt=PROMPTS[1]),
        replace(one, init_image=picture(1, 0, 32)),
        replace(one, init_image=None),
        replace(one, strength=1.0),
        replace(one, guidance_scale=7.0),
        replace(one, seed=3),
    ]
    image = draw(engine, [one])["k0"]
    for other in others:
        assert difference(draw(engine, [other])["k0"], image) > 1, other


def test_images_from_text_are_of_the_resolution(sd3):
    image = draw(make(sd3, resolution=48), [request(0, init=None, strength=1.0)])["k0"]
    assert image.size == (48, 48)


def test_a_pipeline_without_image_to_image(tmp_path):
    folder = small_pipelines.write_pixart(tmp_path / "pixart")
    engine = make(folder)
    requests = [request(i, init=None, strength=1.0, prompt=PROMPTS[i]) for i in range(3)]
    images = draw(engine, requests)
    for one in requests:
        assert difference(images[key(one)], reference(one, steps=3, folder=folder)) <= 1, one
    with pytest.raises(ValueError, match=r"PixArt.* cannot draw from an image.*aug=text2img_label"):
        draw(engine, [request(0, init=picture(0, 0, 32))])


def test_a_pipeline_for_neither(tmp_path):
    folder = small_pipelines.write_sd(tmp_path / "sd")
    small_pipelines.edit_index(folder, _class_name="StableDiffusionLDM3DPipeline")
    with pytest.raises(ValueError, match="cannot draw from text alone.*aug=sgid"):
        draw(make(folder), [request(0, init=None)])


def counted(painter):
    """The sizes of the calls that a painter makes."""
    sizes, call = [], painter._call
    painter._call = lambda batch: sizes.append(len(batch)) or call(batch)
    return sizes


def same(count, **options):
    return [request(i, init=picture(i, 0, 32), **options) for i in range(count)]


def painter(call=None):
    """The painter of the bundled model; `call(pipe, **arguments)` in the place of its own call."""
    engine = make()
    draw(engine, same(1))
    found = engine._painters[True]
    if call is None:
        return found
    kind = type(found.pipe)

    class Other(kind):
        def __call__(self, **arguments):
            return call(super().__call__, **arguments)

    other = Other(**found.pipe.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    made = Painter(other, steps=3, resolution=32)
    made.takes = found.takes
    return made


def test_batches_are_drawn_in_one_call_once_that_was_tried():
    one = painter()
    sizes = counted(one)
    one.draw(same(1))
    one.draw(same(5))
    one.draw(same(4))
    assert sizes == [1, 1, 1, 2, 5, 4]


def no_lists(call, *, prompt, **arguments):
    if isinstance(prompt, list):
        raise TypeError("a str, please")
    return call(prompt=prompt, **arguments)


def one_seed(call, *, generator, **arguments):
    """Noise that is the same for all images of a call, as with one generator for all."""
    if isinstance(generator, list):
        generator = [torch.Generator().manual_seed(10**6) for _ in generator]
    return call(generator=generator, **arguments)


def one_prompt(call, *, prompt, **arguments):
    return call(
        prompt=prompt[:1] * len(prompt) if isinstance(prompt, list) else prompt, **arguments
    )


def one_image(call, *, image, **arguments):
    return call(image=image[:1] * len(image) if isinstance(image, list) else image, **arguments)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (no_lists, "fails on several (TypeError: a str, please)"),
        (one_seed, "grey levels off"),
        (one_prompt, "grey levels off"),
        (one_image, "grey levels off"),
    ],
)
def test_what_cannot_batch_is_called_for_one_image_at_a_time(call, why, caplog):
    one = painter(call)
    sizes = counted(one)
    images = one.draw(same(4)) + one.draw(same(2))
    assert sizes == [1, 1, 2] + [1] * 6
    assert len(said(caplog)) == 1 and why in caplog.text
    for made, asked in zip(images, same(4) + same(2), strict=True):
        assert difference(made, reference(asked, steps=3)) <= 1


@pytest.mark.parametrize(
    ("fits", "calls"),
    [(3, [1, 1, 2, 8, 4, 2, 2, 2, 2]), (1, [1, 1, 2] * 3 + [1] * 8)],
)
def test_out_of_memory_halves_the_batch_and_is_not_taken_for_an_inability(caplog, fits, calls):
    engine = make(batch_size=8)
    expected = draw(make(), same(8))
    draw(engine, same(1))
    small = engine._painters[True]
    call, sizes = small._call, []

    def small_device(batch):
        sizes.append(len(batch))
        if len(batch) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(batch)

    small._call = small_device
    images = draw(engine, same(8))
    assert sizes == calls and engine.batches.size == min(fits, 2)
    assert {record.name for record in said(caplog)} == {"sgid.runtime.batching"}
    assert all(difference(images[name], expected[name]) <= 1 for name in expected)


@pytest.mark.parametrize(
    ("lacks", "asked", "said"),
    [
        ("strength", {"strength": 0.5}, "no strength, but noise_rate=0.5.*take noise_rate=1"),
        ("guidance_scale", {"scale": 3.0}, "no guidance scale, but 3 .*take guidance=off"),
    ],
)
def test_what_a_pipeline_cannot_be_told_is_refused(lacks, asked, said):
    """Editing models have no strength; some have no guidance."""
    one = painter()
    one.takes -= {lacks}
    with pytest.raises(ValueError, match=said):
        one.draw(same(1, **asked))
    one.draw(same(1, **{"strength": 1.0, "scale": 1.0}))


def test_no_requests():
    assert list(make().generate([])) == []


@pytest.mark.parametrize("init", [picture(0, 0, 32), None])
def test_no_watermark_even_where_its_package_is_installed(tmp_path, monkeypatch, init):
    from diffusers.pipelines import stable_diffusion_xl as xl

    class Watermarker:
        def apply_watermark(self, images):
            raise AssertionError("a watermark")

    for module in (xl.pipeline_stable_diffusion_xl, xl.pipeline_stable_diffusion_xl_img2img):
        monkeypatch.setattr(module, "is_invisible_watermark_available", lambda: True)
        monkeypatch.setattr(module, "StableDiffusionXLWatermarker", Watermarker, raising=False)
    folder = small_pipelines.write_sdxl(tmp_path / "xl")
    strength = 0.5 if init else 1.0
    assert draw(make(folder), [request(0, init=init, strength=strength)])
