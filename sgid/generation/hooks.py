"""Latent hooks: changes to the latents while a batch of images is denoised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from sgid.records import Request


@dataclass(frozen=True)
class LatentState:
    """A batch after a denoising step.

    Args:
        latents: (B, C, h, w), the input of the next step, or clean after the last.
        progress: the share of the steps that are done, in (0, 1]; 1 after the last.
        steps: the number of all steps.
        requests: those of the batch, in order.
        predict: the clean latents (B, C, h, w) that the last step predicted.
        decode: from clean latents to pixels (B, 3, H, W) in [-1, 1], which autograd can follow.
        go_on: from latents, a slice of the batch's rows, and a number, to the clean latents
            predicted after so many further steps, which autograd can follow.
        features: from pixels to CLIP's unit features (B, D), which autograd can follow.
    """

    latents: torch.Tensor
    progress: float
    steps: int
    requests: Sequence[Request]
    predict: Callable[[], torch.Tensor]
    decode: Callable[[torch.Tensor], torch.Tensor]
    go_on: Callable[[torch.Tensor, slice, int], torch.Tensor]
    features: Callable[[torch.Tensor], torch.Tensor] | None = None

    @property
    def done(self) -> int:
        """The number of steps that are done."""
        return round(self.progress * self.steps)


class LatentHook(Protocol):
    """A change to the latents of a batch, row by row, so that no image depends on its batch."""

    def __call__(self, state: LatentState, artifact: Path | None) -> torch.Tensor | None:
        """The latents to go on with, or `None` to leave them.

        `artifact` is the folder that the method prepared. Gradients are off outside of
        `torch.enable_grad()`, and inputs are to be detached.
        """
        ...


def predicted_original(
    scheduler: Any, output: torch.Tensor, timestep: torch.Tensor, latents: torch.Tensor
) -> torch.Tensor:
    """The clean latents (B, C, h, w) that a model output predicts (Song et al., 2021, eq. 12).

    Args:
        output: what the network gave, of the scheduler's `prediction_type`.
        latents: its input at `timestep`, before `scale_model_input`.

    Raises:
        ValueError: for a scheduler whose latents are not scaled to keep their variance.
    """
    if scheduler.init_noise_sigma != 1:
        raise ValueError(
            f"models.generator.scheduler={type(scheduler).__name__}: this method looks at "
            "predicted images, which DPMSolverMultistepScheduler, DDIMScheduler and their like give"
        )
    alpha = scheduler.alphas_cumprod.to(latents.device)[timestep.long()].to(latents.dtype)
    match scheduler.config.prediction_type:
        case "epsilon":
            return (latents - (1 - alpha).sqrt() * output) / alpha.sqrt()
        case "v_prediction":
            return alpha.sqrt() * latents - (1 - alpha).sqrt() * output
        case _:  # "sample"
            return output


def deterministic_step(
    scheduler: Any,
    original: torch.Tensor,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    following: torch.Tensor,
) -> torch.Tensor:
    """Latents (B, C, h, w) at `following`, given those at `timestep` and the predicted original.

    DDIM without noise (Song et al., 2021, eq. 12).
    """
    alphas = scheduler.alphas_cumprod.to(latents.device)
    before, after = (alphas[t.long()].to(latents.dtype) for t in (timestep, following))
    noise = (latents - before.sqrt() * original) / (1 - before).sqrt()
    return after.sqrt() * original + (1 - after).sqrt() * noise
