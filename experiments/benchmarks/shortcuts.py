"""Gain in speed and cost in quality of each shortcut.

    python -m experiments.benchmarks.shortcuts

The options of `sgid.generation.acceleration`, each against the exact engine, with the bundled
models, 20 steps and noise rate 0.7; `all three` is a cache of 2, guidance within 0.2–0.6, and the
small decoder; and for comparison what fewer steps do. `quality` defines the figures;
the reference is the exact engine. The small decoder is taught to decode as the bundled VAE does, on
the bundled training images, and kept below `--artifacts`: two minutes, once.

Figures of the bundled models do not carry over. Their UNet has two levels, so that little lies deep
in it, and their VAE is small already.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.common import Rounds, arguments, finish, paired, ratio, table
from experiments.benchmarks.quality import COLUMNS, Measured, Setting

EXACT, ALL = "exact", "all three"
DISTILLATION, BATCH = 1_500, 64


def main() -> None:
    given = arguments(__doc__, images=300, device="cpu", noise_rate=0.7, artifacts="artifacts")
    with TemporaryDirectory() as artifacts:
        setting = Setting(
            given.images, noise_rate=given.noise_rate, device=given.device,
            artifacts=Path(artifacts),
        )  # fmt: skip
        tiny = tiny_vae(setting, Path(given.artifacts) / "benchmarks")
        engines = {
            name: setting.engine(**{"steps": 20, **options}) for name, options in arms(tiny).items()
        }
        exact, _ = setting.draw(engines[EXACT])
        measured, rates = {}, {}
        for name, engine in engines.items():
            images, rate = setting.draw(engine)
            like = None if name == EXACT else exact
            measured[name] = setting.measure(images, rate=rate, like=like)
            rates[name] = lambda engine=engine: fresh(setting, engine)
        values = paired(rates, given.rounds)
        floor = setting.floor()
    finish(
        "shortcuts",
        given.out,
        title=f"Shortcuts: speed and quality, bundled models, noise rate {given.noise_rate:g}",
        body=f"{_table(values, measured)}\n\nDistance of the originals themselves: {floor:.2f}.",
        targets=[],
        figure=_figure(values, measured),
        data={
            "images_per_second": values,
            "quality": {name: one.values() for name, one in measured.items()},
        },
    )


def arms(tiny: Path) -> dict[str, dict[str, Any]]:
    """Name -> options of the engine."""
    cached = {f"deep_cache {n}": {"deep_cache": n} for n in (2, 3, 5)}
    intervals = ([0.0, 0.5], [0.2, 0.6], [0.3, 1.0])
    guided = {
        f"guidance {low}–{high}": {"guidance_interval": [low, high]} for low, high in intervals
    }
    small = {"tiny_vae": {"tiny_vae": tiny}}
    all_three = {"deep_cache": 2, "guidance_interval": intervals[1], "tiny_vae": tiny}
    steps = {f"steps {n}": {"steps": n} for n in (12, 8, 5)}
    return {EXACT: {}, **cached, **guided, **small, ALL: all_three, **steps}


def fresh(setting: Setting, engine: Any) -> float:
    """Images per second of an engine that has kept nothing."""
    engine.known.forget()
    return setting.draw(engine)[1]


def tiny_vae(setting: Setting, kept: Path) -> Path:
    """The folder of an `AutoencoderTiny` that decodes the bundled VAE's latents; made if absent."""
    from diffusers import AutoencoderKL

    from sgid.models.weights import content_hash

    source = setting.folder / "vae"
    folder = kept / f"tiny_vae-{content_hash(source)}-{DISTILLATION}"
    if folder.is_dir():
        return folder
    vae: Any = AutoencoderKL.from_pretrained(source).eval()
    images = np.stack([np.asarray(one.image.convert("RGB")) for one in originals(setting)])
    tiny = distil(vae, torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    tiny.save_pretrained(partial)
    partial.rename(folder)
    return folder


def originals(setting: Setting) -> Any:
    """All the bundled training images, of which the setting's are a part."""
    from hydra.utils import instantiate

    listing = instantiate(setting.config.dataset.source).train
    return listing.images(listing.stamps)


def distil(vae: Any, images: torch.Tensor, *, steps: int = DISTILLATION) -> Any:
    """An `AutoencoderTiny` whose decoder gives what `vae`'s does, for (N, 3, H, W) in [-1, 1].

    Its encoder is left as it is drawn: images are encoded by the model's own.
    """
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    width = (16,) * len(vae.config.block_out_channels)
    tiny: Any = AutoencoderTiny(
        latent_channels=vae.config.latent_channels,
        encoder_block_out_channels=width, decoder_block_out_channels=width,
        num_encoder_blocks=(1,) * len(width), num_decoder_blocks=(1,) * len(width),
    )  # fmt: skip
    optimizer = torch.optim.Adam(tiny.decoder.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        with torch.no_grad():
            some = images[torch.randint(len(images), (BATCH,))]
            latents = vae.encode(some).latent_dist.sample()
            # What the denoiser gives is not quite what an encoder does.
            latents += 0.1 * torch.rand(BATCH, 1, 1, 1) * torch.randn_like(latents)
            expected = vae.decode(latents, return_dict=False)[0]
        given = tiny.decode(latents * vae.config.scaling_factor, return_dict=False)[0]
        loss = (given - expected).abs().mean() + (given - expected).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"small decoder: step {step}/{steps}, loss {float(loss):.3f}", file=sys.stderr)
    return tiny


def _table(values: Rounds, measured: dict[str, Measured]) -> str:
    rows = []
    for name, one in measured.items():
        _, *quality = one.cells()
        times = f"{ratio(values, name, EXACT):.2f}×"
        rows.append((name, f"{statistics.median(values[name]):.3g}", times, *quality))
    return table(("setting", COLUMNS[0], f"against {EXACT}", *COLUMNS[1:]), rows)


def _figure(values: Rounds, measured: dict[str, Measured]) -> Any:
    """Gain against cost, a dot for each setting."""
    from matplotlib.figure import Figure

    from sgid.reporting.figures import BLACK, COLOURS

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    kinds = {name: name.split()[0] for name in measured}
    colours = dict(zip(dict.fromkeys(kinds.values()), cycle((BLACK, *COLOURS[:-1]))))
    shown = ("off", "agreement", "distance")
    titles = (COLUMNS[4], COLUMNS[1], COLUMNS[3])
    for axes, what, title in zip(figure.subplots(1, 3), shown, titles, strict=True):
        for name, one in measured.items():
            gain, cost = ratio(values, name, EXACT), getattr(one, what) or 0.0
            axes.plot(gain, cost, "o", color=colours[kinds[name]], markersize=4)
            axes.annotate(name, (gain, cost), (3, 3), textcoords="offset points", size=6)
        axes.set_xlabel("times as fast", fontsize=8)
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
