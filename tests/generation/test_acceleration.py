"""What trades exactness for speed: what it leaves out, what it must not change, what it refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from sgid.generation.acceleration import DeepCache, guided_steps, load_tiny_vae
from tests.conftest import MODELS
from tests.data.writers import picture
from tests.generation import small_pipelines
from tests.generation.requests import difference, draw, request, varied

ROWS, STEPS = 3, 7


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Stable Diffusion and XL: they end in different blocks, and XL is told of more."""
    top = tmp_path_factory.mktemp("pipelines")
    return {"sd": MODELS / "sd", "sdxl": small_pipelines.write_sdxl(top / "sdxl")}


@pytest.fixture(params=["sd", "sdxl"])
def unet(folders, request) -> Any:
    return load_unet(folders[request.param])


def load_unet(folder) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(folder / "unet").eval()


def told(unet, *, rows=ROWS, seed=0) -> dict[str, Any]:
    """Texts of random numbers, and for XL what else it is told."""
    draw = torch.Generator().manual_seed(seed)
    config = unet.config
    text = torch.randn(rows, 5, config.cross_attention_dim, generator=draw)
    more: dict[str, Any] = {"return_dict": False, "encoder_hidden_states": text}
    if config.addition_embed_type:
        whole = torch.randn(rows, small_pipelines.WIDTH, generator=draw)
        sizes = 32 * torch.rand(rows, 6, generator=draw)
        more["added_cond_kwargs"] = {"text_embeds": whole, "time_ids": sizes}
    return more


def noisy(unet, *, rows=ROWS, seed=1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, unet.config.in_channels, 8, 8, generator=draw)


@torch.inference_mode()
def denoise(unet, denoiser, *, rows=ROWS, seed=1) -> torch.Tensor:
    """DDIM by hand, from pure noise."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(STEPS)
    latents, text = noisy(unet, rows=rows, seed=seed), told(unet, rows=rows, seed=seed)
    for t in scheduler.timesteps:
        noise = denoiser(latents, t, **text)[0]
        latents = scheduler.step(noise, t, latents, return_dict=False)[0]
    return latents


def whole_steps(unet, denoiser, rows: list[int]) -> list[int]:
    """At which of the steps, with batches of these rows, the middle of the UNet was run."""
    step, ran = 0, []
    hook = unet.mid_block.register_forward_pre_hook(lambda *_: ran.append(step))
    with torch.inference_mode():
        for step, count in enumerate(rows):  # noqa: B007
            denoiser(noisy(unet, rows=count), torch.tensor(500), **told(unet, rows=count))
    hook.remove()
    return ran


@pytest.mark.parametrize("interval", [1, 2, 3, 5])
def test_the_deep_features_are_computed_every_interval_steps(unet, interval):
    denoiser = DeepCache(unet, interval=interval).denoiser()
    assert whole_steps(unet, denoiser, [2] * 7) == list(range(0, 7, interval))


def test_other_rows_need_a_whole_step(unet):
    """As at the ends of a guidance interval; the count begins anew there."""
    denoiser = DeepCache(unet, interval=3).denoiser()
    assert whole_steps(unet, denoiser, [2, 2, 4, 4, 4, 4, 2]) == [0, 2, 5, 6]


def test_an_interval_of_1_is_the_unet_itself(unet):
    assert torch.equal(denoise(unet, DeepCache(unet, interval=1).denoiser()), denoise(unet, unet))


def test_what_is_left_out_is_what_was_computed_before(unet):
    """The second step is a shallow one. With the inputs of the first it must give the same, and
    with others neither the same nor what a whole step gives."""
    denoiser = DeepCache(unet, interval=2).denoiser()
    text, latents = told(unet), noisy(unet)
    with torch.inference_mode():
        whole = denoiser(latents, torch.tensor(500), **text)[0]
        assert torch.equal(denoiser(latents, torch.tensor(500), **text)[0], whole)
    for other, t in ((noisy(unet, seed=9), 500), (latents, 300)):
        denoiser = DeepCache(unet, interval=2).denoiser()
        with torch.inference_mode():
            denoiser(latents, torch.tensor(500), **text)
            shallow = denoiser(other, torch.tensor(t), **text)[0]
            exact = unet(other, torch.tensor(t), **text)[0]
        assert not torch.equal(shallow, whole)
        assert float((shallow - exact).abs().max()) > 1e-4


def test_it_repeats_and_no_batch_touches_the_next(unet):
    cache = DeepCache(unet, interval=3)
    first = denoise(unet, cache.denoiser())
    denoise(unet, cache.denoiser(), seed=7)
    assert torch.equal(denoise(unet, cache.denoiser()), first)


def test_batch_size_never_changes_an_image(unet):
    cache = DeepCache(unet, interval=3)
    latents, text = noisy(unet), told(unet)
    together, alone = cache.denoiser(), [cache.denoiser() for _ in range(ROWS)]
    with torch.inference_mode():
        for t in (900, 600, 300, 0):
            rows = together(latents, torch.tensor(t), **text)[0]
            for row, denoiser in enumerate(alone):
                own = told(unet)
                own["encoder_hidden_states"] = own["encoder_hidden_states"][[row]]
                for key, value in own.get("added_cond_kwargs", {}).items():
                    own["added_cond_kwargs"][key] = value[[row]]
                one = denoiser(latents[[row]], torch.tensor(t), **own)[0]
                torch.testing.assert_close(one, rows[[row]], rtol=1e-4, atol=1e-4)


def test_threads_denoise_at_once(unet):
    cache = DeepCache(unet, interval=3)
    expected = [denoise(unet, cache.denoiser(), seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        given = threads.map(lambda seed: denoise(unet, cache.denoiser(), seed=seed), range(4))
    for one, other in zip(expected, given, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"up_block_types": ("CrossAttnUpBlock2D", "AttnUpBlock2D")}, "ends with a AttnUpBlock2D"),
        ({"center_input_sample": True}, "center_input_sample=True"),
        ({"num_class_embeds": 4}, "num_class_embeds=4"),
    ],
)
def test_a_unet_of_another_build_is_refused(change, said):
    from diffusers import UNet2DConditionModel

    settings = UNet2DConditionModel.load_config(MODELS / "sd" / "unet")
    unet: Any = UNet2DConditionModel.from_config({**settings, **change})
    with pytest.raises(ValueError, match=f"deep_cache=3: .*{said}.*deep_cache=1"):
        DeepCache(unet, interval=3)


def test_a_compiled_unet_runs_the_whole_steps(unet):
    """Such a one is a function, and no layer of it can be called alone."""
    ran = []

    def compiled(latents, t, **told):
        ran.append(int(t))
        return unet(latents, t, **told)

    expected = denoise(unet, DeepCache(unet, interval=3).denoiser())
    given = denoise(unet, DeepCache(unet, interval=3, whole=compiled).denoiser())
    assert len(ran) == 3 and torch.equal(given, expected)


def test_guided_steps_are_those_within_the_interval():
    timesteps = torch.tensor([999, 700, 699.5, 300, 299, 0])
    assert guided_steps(timesteps, [0.3, 0.7], total=1000) == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    assert guided_steps(timesteps, [0.0, 1.0], total=1000) == [True] * 6


@pytest.fixture(scope="module")
def vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(MODELS / "sd" / "vae").eval()


def write_tiny(folder, **changed: Any):
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    settings: dict[str, Any] = {"latent_channels": 8, **changed}
    for part in ("encoder", "decoder"):
        settings.setdefault(f"{part}_block_out_channels", (8, 8, 8))
        blocks = len(settings[f"{part}_block_out_channels"])
        settings.setdefault(f"num_{part}_blocks", (1,) * blocks)
    AutoencoderTiny(**settings).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"latent_channels": 4}, "decodes latents of 4 channels; this model's have 8"),
        (
            {"decoder_block_out_channels": (8,) * 4},
            "enlarges latents 8 times; this model's have to be 4 times",
        ),
        ({"scaling_factor": 0.5}, r"scaling and shift factor \(0.5, 0.0\)"),
        ({}, "decodes other latents than this model's: .* it gives 0% of the variance"),
    ],
)
def test_a_tiny_vae_of_another_model_is_refused(tmp_path, vae, changed, said):
    folder = write_tiny(tmp_path / "tiny", **changed)
    with pytest.raises(
        ValueError, match=f"tiny_vae: .*{said}.*leave models.generator.tiny_vae out"
    ):
        load_tiny_vae(folder, like=vae)


def test_what_is_no_tiny_vae_is_refused(vae):
    with pytest.raises(ValueError, match="holds a AutoencoderKL, not an AutoencoderTiny"):
        load_tiny_vae(MODELS / "sd" / "vae", like=vae)


def test_pickles_are_not_read(tmp_path, vae):
    folder = write_tiny(tmp_path / "tiny")
    (weights,) = folder.glob("*.safetensors")
    weights.rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_tiny_vae(folder, like=vae)


def test_a_tiny_vae_of_this_model_decodes_the_denoisers_latents(tmp_path, vae):
    """Fitted for a moment to what the model's own VAE gives of the very picture it is tried on."""
    from diffusers import AutoencoderTiny

    from sgid.generation.acceleration import _explained

    tiny: Any = AutoencoderTiny.from_pretrained(write_tiny(tmp_path / "tiny"))
    with torch.no_grad():
        assert _explained(tiny, vae) < 0.5
    x = torch.linspace(-1, 1, 64)
    y, x = torch.meshgrid(x, x, indexing="ij")
    disc = torch.where(x**2 + y**2 < 0.4, 0.9 - 0.3 * y, -0.8 + 0.2 * x).expand(1, 3, 64, 64)
    with torch.no_grad():
        latents = vae.encode(disc).latent_dist.mode()
        expected = vae.decode(latents).sample
    optimizer = torch.optim.Adam(tiny.decoder.parameters(), lr=1e-2)
    for _ in range(40):
        given = tiny.decode(latents * vae.config.scaling_factor).sample
        optimizer.zero_grad()
        (given - expected).square().mean().backward()
        optimizer.step()
    tiny.save_pretrained(tmp_path / "fitted")
    loaded = load_tiny_vae(tmp_path / "fitted", like=vae)
    assert not loaded.training
    with torch.inference_mode():
        given = loaded.decode(latents * vae.config.scaling_factor).sample
    assert float((given - expected).abs().mean()) < 0.3


def test_settings_that_leave_nothing_out_are_exact(make_engine):
    requests = varied()
    exact = draw(make_engine(), requests)
    same = draw(make_engine(deep_cache=1, guidance_interval=[0.0, 1.0]), requests)
    assert all(difference(exact[name], same[name]) == 0 for name in exact)


@pytest.mark.parametrize("options", [{"deep_cache": 2}, {"guidance_interval": [0.2, 0.4]}])
def test_a_shortcut_changes_images_but_repeats_whatever_the_batch(make_engine, options):
    requests = varied(10)
    exact = draw(make_engine(), requests)
    images = draw(make_engine(**options), requests)
    again = draw(make_engine(**options, batch_size=3), requests[::-1])
    assert all(difference(images[name], again[name]) <= 1 for name in exact)
    assert any(difference(images[name], exact[name]) > 1 for name in exact)


def test_outside_the_interval_the_unconditional_half_is_left_out(make_engine):
    engine = make_engine(guidance_interval=[0.0, 0.4])
    sizes = []
    unet = engine.pipe.unet
    hook = unet.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    draw(engine, [request(i, init=picture(i, 0, 32), strength=1.0) for i in range(4)])
    hook.remove()
    assert sizes == [4, 4, 4, 4, 8, 8]
