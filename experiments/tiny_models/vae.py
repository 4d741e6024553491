"""`AutoencoderKL`, 4× down to 8 latent channels: 32×32 pixels are 8×8×8 numbers.

Four channels (256 numbers) end near what PCA keeps of Fashion-MNIST with as many, 25 dB, and lose
stripes and prints; eight do not.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.tiny_models.images import Part
from experiments.tiny_models.training import train

STEPS = 4_500


def build() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
    )


def pixels(part: Part, rows: Tensor | slice) -> Tensor:
    """(B, 3, 32, 32) in [-1, 1]."""
    grey = torch.from_numpy(part.images[rows]).float()[:, None] / 127.5 - 1
    return grey.expand(-1, 3, -1, -1)


def fit(part: Part, work: Path, *, steps: int = STEPS) -> AutoencoderKL:
    """Train on `part`; sets the scaling factor that gives latents a deviation of 1."""
    vae = build()

    def loss(rows: Tensor) -> Tensor:
        images = pixels(part, rows)
        posterior = vae.encode(images).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        error = F.l1_loss(decoded, images) + 4 * F.mse_loss(decoded, images)
        edges = sum(F.l1_loss(decoded.diff(dim=d), images.diff(dim=d)) for d in (2, 3))
        return error + 0.5 * edges + 3e-4 * posterior.kl().mean() / posterior.mean[0].numel()

    for step, value in train(
        nn.ModuleDict({"vae": vae}), loss, images=len(part.images), batch_size=32, steps=steps,
        learning_rate=2e-3, checkpoint=work / "vae.pt",
    ):  # fmt: skip
        print(f"vae {step} loss {value:.4f}", flush=True)
    vae.register_to_config(scaling_factor=1 / float(encode(vae, part, 2_000).std()))
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, part: Part, count: int | None = None) -> Tensor:
    """Unscaled posterior means (N, 8, 8, 8)."""
    count = count or len(part.images)
    return torch.cat(
        [
            vae.encode(pixels(part, slice(i, min(i + 250, count)))).latent_dist.mean
            for i in range(0, count, 250)
        ]
    )


@torch.no_grad()
def psnr(vae: AutoencoderKL, part: Part, count: int = 2_000) -> float:
    """Mean PSNR in dB over held-out images, of 8-bit reconstructions, data range 255."""
    values = []
    for start in range(0, count, 250):
        images = pixels(part, slice(start, start + 250))
        decoded = vae.decode(vae.encode(images).latent_dist.mean).sample.clamp(-1, 1)
        error = ((decoded - images) * 127.5).round().square().mean((1, 2, 3))
        values.append(10 * torch.log10(255**2 / error.clamp(min=1e-3)))
    return float(torch.cat(values).mean())
