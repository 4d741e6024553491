"""`AutoencoderKL` that shrinks images to a few latent channels, and how much of them comes back.

Clothing at 32×32 pixels becomes 8×8×8 numbers. Four channels (256 numbers) end near what PCA keeps
of Fashion-MNIST with as many, 25 dB, and lose stripes and prints; eight do not. Photographs become
16×16×4 numbers: in 8×8×12 a third of them lose their class, at 28.8 dB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.models.training import train
from experiments.models.world import Part, Sizes, pixels


def build(sizes: dict[str, Any]) -> AutoencoderKL:
    torch.manual_seed(0)
    levels = len(sizes["block_out_channels"])
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
        **sizes,
    )


def fit(
    part: Part, sizes: Sizes, work: Path, *, device: torch.device, **limits: Any
) -> AutoencoderKL:
    """Train on `part`; sets the scaling factor that gives latents a deviation of 1."""
    vae: Any = build(sizes.vae).to(device)

    def loss(rows: Tensor) -> Tensor:
        images = pixels(part, rows).to(device)
        posterior = vae.encode(images).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        error = F.l1_loss(decoded, images) + 4 * F.mse_loss(decoded, images)
        edges = sum(F.l1_loss(decoded.diff(dim=d), images.diff(dim=d)) for d in (2, 3))
        return error + 0.5 * edges + 3e-4 * posterior.kl().mean() / posterior.mean[0].numel()

    for step, value in train(
        nn.ModuleDict({"vae": vae}), loss, sizes.vae_training, images=len(part.images),
        checkpoint=work / "vae.pt", **limits,
    ):  # fmt: skip
        print(f"vae {step} loss {value:.4f}", flush=True)
    vae.register_to_config(scaling_factor=1 / float(encode(vae, part, 2_000).std()))
    return vae


@torch.no_grad()
def encode(vae: Any, part: Part, count: int | None = None, *, mirrored: bool = False) -> Tensor:
    """Unscaled posterior means (N, C, H, W) on the CPU, of the images or of their mirror images."""
    count = count or len(part.images)
    latents = []
    for start in range(0, count, 250):
        images = pixels(part, slice(start, min(start + 250, count))).to(vae.device)
        latents.append(vae.encode(images.flip(3) if mirrored else images).latent_dist.mean.cpu())
    return torch.cat(latents)


@torch.no_grad()
def psnr(vae: Any, part: Part, count: int = 2_000) -> float:
    """Mean PSNR in dB over held-out images, of 8-bit reconstructions, data range 255."""
    values = []
    for start in range(0, min(count, len(part.images)), 250):
        images = pixels(part, slice(start, start + 250)).to(vae.device)
        decoded = vae.decode(vae.encode(images).latent_dist.mean).sample.clamp(-1, 1)
        error = ((decoded - images) * 127.5).round().square().mean((1, 2, 3))
        values.append(10 * torch.log10(255**2 / error.clamp(min=1e-3)))
    return float(torch.cat(values).mean())
