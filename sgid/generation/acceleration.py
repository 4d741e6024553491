"""Accelerations that trade exactness for speed: off by default, and part of a store's spec.

`DeepCache` runs most of the UNet only every few steps, `guided_steps` leaves the unconditional half
out of some, and `load_tiny_vae` gives a decoder that is a fraction of the VAE's size.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    import torch


Denoiser = Callable[..., tuple["torch.Tensor", ...]]
"""The UNet, or what stands in for it: `(latents, t, **text, return_dict=False)` to `(noise,)`."""

_LAST_BLOCKS = ("UpBlock2D", "CrossAttnUpBlock2D")


_BESIDE_THE_TEXT = (
    *("class_embed_type", "num_class_embeds", "encoder_hid_dim_type"),
    *("time_embedding_act_fn", "center_input_sample"),
)


def guided_steps(timesteps: torch.Tensor, interval: Sequence[float], *, total: int) -> list[bool]:
    """Guided steps: those at a share t / `total` of the noise schedule in `interval`.

    At the others the unconditional half need not be computed (Kynkäänniemi et al., 2024, who give
    the interval in noise levels). `total` is the number of timesteps of the training.
    """
    low, high = interval
    if low <= 0 and high >= 1:
        return [True] * len(timesteps)  # without waiting for the device to tell them
    return [low <= t / total <= high for t in timesteps.tolist()]


@final
class DeepCache:
    """The UNet's deep features, computed every `interval` steps (Ma et al., CVPR 2024).

    In between only its first convolution and its last layer are run, on what came up from the
    layers below at the last whole step: the method's shallowest branch. An `interval` of 1 is the
    UNet itself.

    Threads may denoise batches of their own at once: each batch has its own `denoiser`.

    Args:
        interval: steps from one whole one to the next.
        whole: what runs the whole of `unet` where not it itself, as when it is compiled.

    Raises:
        ValueError: when the UNet is of another build than those of Stable Diffusion 1, 2 and XL.
    """

    def __init__(self, unet: Any, *, interval: int, whole: Denoiser | None = None) -> None:
        import torch

        if why := _not_cached(unet):
            raise ValueError(
                f"models.generator.deep_cache={interval}: this model's UNet {why}, which the cache "
                "knows nothing of; take models.generator.deep_cache=1"
            )
        self.unet = unet
        self.whole = whole or unet
        self.interval = interval
        self._seen = threading.local()
        if interval > 1:
            look = torch.compiler.disable(self._look)  # it does what a graph cannot hold
            unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(look)

    def denoiser(self) -> Denoiser:
        """A stand-in for the UNet for the steps of one batch, in their order.

        A step of another number of rows than the one before is a whole one.
        """
        deep: torch.Tensor | None = None
        whole_ago = 0

        def denoise(
            latents: torch.Tensor, t: torch.Tensor, **told: Any
        ) -> tuple[torch.Tensor, ...]:
            nonlocal deep, whole_ago
            whole_ago += 1
            if deep is not None and len(deep) == len(latents) and whole_ago < self.interval:
                return (self._shallow(latents, t, deep, told),)
            noise = self.whole(latents, t, **told)
            deep, whole_ago = self._seen.__dict__.pop("deep", None), 0
            return noise

        return denoise

    def _look(self, _: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        """Keep what comes from below, (B, C, h, w), of what the last layer is about to be given.

        The rest is what it is given from across: the output of the first convolution.
        """
        joined, across = inputs[0], self.unet.conv_in.out_channels
        self._seen.deep = joined[:, :-across].clone()  # else all of it would be kept

    def _shallow(
        self, latents: torch.Tensor, t: torch.Tensor, deep: torch.Tensor, told: dict[str, Any]
    ) -> torch.Tensor:
        """The noise, (B, c, h, w), by the first convolution and the last layer."""
        import torch

        unet, text = self.unet, told["encoder_hidden_states"]
        time = unet.time_embedding(unet.get_time_embed(sample=latents, timestep=t))  # (B, D)
        more = unet.get_aug_embed(
            emb=time,
            encoder_hidden_states=text,
            added_cond_kwargs=told.get("added_cond_kwargs"),
        )
        time = time if more is None else time + more
        # With an IP-Adapter, the tokens of the images as well.
        text = unet.process_encoder_hidden_states(text, told.get("added_cond_kwargs"))
        last = unet.up_blocks[-1]
        hidden = torch.cat([deep, unet.conv_in(latents)], dim=1)
        hidden = last.resnets[-1](hidden, time)
        if hasattr(last, "attentions"):
            hidden = last.attentions[-1](hidden, encoder_hidden_states=text, return_dict=False)[0]
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))


def load_tiny_vae(folder: Path, *, like: Any) -> Any:
    """The `AutoencoderTiny` in `folder`, to decode what `like`, the model's own VAE, encodes.

    It takes latents of the denoiser's scale, and gives pixels in [-1, 1].

    Raises:
        ValueError: when it is none, or was made for the latents of another VAE.
    """
    import torch
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    def refusal(why: str) -> ValueError:
        return ValueError(
            f"models.generator.tiny_vae: {folder} {why}. Take one that was made for this model, or "
            "leave models.generator.tiny_vae out"
        )

    config: Any = AutoencoderTiny.load_config(folder, local_files_only=True)
    if (kind := config.get("_class_name")) != "AutoencoderTiny":
        raise refusal(f"holds a {kind}, not an AutoencoderTiny")
    own, given = like.config.latent_channels, config["latent_channels"]
    if given != own:
        raise refusal(f"decodes latents of {given} channels; this model's have {own}")
    own = 2 ** (len(like.config.block_out_channels) - 1)
    ups = len(config["decoder_block_out_channels"]) - 1
    given = config.get("upsampling_scaling_factor", 2) ** ups
    if given != own:
        raise refusal(f"enlarges latents {given} times; this model's have to be {own} times")
    if (given := (config.get("scaling_factor", 1.0), config.get("shift_factor", 0.0))) != (1, 0):
        raise refusal(
            f"has the scaling and shift factor {given}; what decodes the denoiser's own latents "
            "has (1.0, 0.0)"
        )
    tiny: Any = AutoencoderTiny.from_pretrained(
        folder, dtype=like.dtype, use_safetensors=True, local_files_only=True
    )
    tiny = tiny.to(like.device).eval()
    with torch.inference_mode():
        if not (share := _explained(tiny, like)) >= 0.5:
            raise refusal(
                f"decodes other latents than this model's: of a test picture that the model's own "
                f"VAE decodes, it gives {max(0.0, share):.0%} of the variance"
            )
    return tiny


def _explained(tiny: Any, vae: Any) -> float:
    """Share of `vae`'s own decoding of a bright disc on a ramp `tiny`'s explains (R²)."""
    import torch

    side = 16 * 2 ** (len(vae.config.block_out_channels) - 1)
    ramp = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(ramp, ramp, indexing="ij")
    picture = torch.where(x**2 + y**2 < 0.4, 0.9 - 0.3 * y, -0.8 + 0.2 * x)
    pixels = picture.expand(1, 3, side, side).to(vae.device, vae.dtype)
    latents = vae.encode(pixels).latent_dist.mode()
    expected = vae.decode(latents, return_dict=False)[0].float()
    mean, std = (
        latents.new_tensor(vae.config.get(name) or [one]).view(1, -1, 1, 1)
        for name, one in (("latents_mean", 0.0), ("latents_std", 1.0))
    )
    latents = (latents - mean) * vae.config.scaling_factor / std
    given = tiny.decode(latents, return_dict=False)[0].float()
    return 1 - float((given - expected).square().mean() / expected.var(correction=0))


def _not_cached(unet: Any) -> str | None:
    """Reason why `DeepCache` cannot be used with this UNet, or `None`."""
    if (name := type(unet.up_blocks[-1]).__name__) not in _LAST_BLOCKS:
        return f"ends with a {name}"
    told = [f"{key}={unet.config[key]}" for key in _BESIDE_THE_TEXT if unet.config[key]]
    return f"has {', '.join(told)}" if told else None
