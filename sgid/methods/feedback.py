"""Feedback-guided synthesis: images where a classifier is unsure (Askari-Hemmat et al., 2024).

Every few steps the latents follow the gradient of the classifier's entropy, or loss, of the image
that is predicted (arXiv 2310.00158).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sgid.methods.gif import entropy
from sgid.methods.probe import load_probe
from sgid.runtime.batching import by_rows

if TYPE_CHECKING:
    import torch

    from sgid.generation.hooks import LatentState

CRITERIA = ("entropy", "loss")


def uncertain(
    state: LatentState,
    artifact: Path | None,
    *,
    criterion: str,
    scale: float,
    every: int,
    at_once: int = 8,
) -> torch.Tensor | None:
    """Follow the gradient after each `every`-th step, but the last.

    Args:
        criterion: `entropy` of the prepared classifier, or its `loss` of the label.
        scale: the length of the move, as a share of that of the latents.

    Raises:
        ValueError: for another criterion.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion={criterion}: unknown; one of {', '.join(CRITERIA)}")
    if state.done % every or state.done == state.steps:
        return None
    import torch

    probe, device = load_probe(artifact), state.latents.device
    weight, bias = (
        torch.from_numpy(array / probe.temperature).float().to(device)
        for array in (probe.weight, probe.bias)
    )

    def move(rows: slice) -> torch.Tensor:
        assert state.features is not None
        latents = state.latents[rows].detach().clone().requires_grad_()
        labels = torch.tensor([one.label for one in state.requests[rows]], device=device)
        with torch.enable_grad():
            features = state.features(state.decode(state.go_on(latents, rows, 1))).float()
            shares = (features @ weight.T + bias).softmax(1)
            if criterion == "entropy":
                total = entropy(shares).sum()
            else:
                total = -shares.gather(1, labels[:, None]).clamp(min=1e-12).log().sum()
            (gradient,) = torch.autograd.grad(total, latents)
        return along(latents.detach(), gradient, scale=scale)

    return by_rows(len(state.latents), at_once, move)


def along(latents: torch.Tensor, gradient: torch.Tensor, *, scale: float) -> torch.Tensor:
    """Latents (B, C, h, w) moved along the gradient by `scale` times their own length."""
    lengths = latents.flatten(1).norm(dim=1), gradient.flatten(1).norm(dim=1).clamp(min=1e-12)
    factor = scale * lengths[0] / lengths[1]
    return latents + factor[:, None, None, None] * gradient
