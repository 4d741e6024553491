"""GIF: latents moved so that CLIP finds an image more informative (Zhang et al., NeurIPS 2023).

After denoising, each channel of the clean latents f becomes f' = (1 + z) f + b. One step of ascent
on z and b raises a score of the decoded image, and f' is decoded again (arXiv 2211.13976).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sgid.methods.probe import load_probe
from sgid.reproducibility import derive_seed
from sgid.runtime.batching import by_rows

if TYPE_CHECKING:
    import torch

    from sgid.generation.hooks import LatentState


def informative(
    state: LatentState, artifact: Path | None, *, bound: float, step: float, at_once: int = 8
) -> torch.Tensor | None:
    """Move the clean latents: z ~ U(0, 1) and b ~ N(0, 1), a step of `step` by the sign of the
    gradient of `score`, and both within -`bound` and `bound`.
    """
    if state.progress < 1:
        return None
    probe = load_probe(artifact)
    import torch

    texts = torch.from_numpy(probe.texts).float().to(state.latents.device)  # (C, D)
    return by_rows(
        len(state.latents),
        at_once,
        partial(_moved, state, texts=texts, scale=float(probe.scale), bound=bound, step=step),
    )


def _moved(
    state: LatentState,
    rows: slice,
    *,
    texts: torch.Tensor,
    scale: float,
    bound: float,
    step: float,
) -> torch.Tensor:
    """The new latents (b, C, h, w) of some rows."""
    import torch

    assert state.features is not None
    latents, requests = state.latents[rows].detach().clone(), state.requests[rows]
    labels = torch.tensor([one.label for one in requests], device=latents.device)

    def look(affine: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        assert state.features is not None
        f = latents if affine is None else moved(latents, *affine)
        return state.features(state.decode(f)).float()

    seeds = [one.seed for one in requests]
    with torch.no_grad():
        before = torch.softmax(scale * look(None) @ texts.T, 1)
        partner = look(draw_affine(latents, seeds, "partner"))
    z, b = (one.requires_grad_() for one in draw_affine(latents, seeds, "gif"))
    with torch.enable_grad():
        features = look((z, b))
        after = torch.softmax(scale * features @ texts.T, 1)
        # Each image by itself: its gradient is that of the sum.
        total = score(before, after, labels, features, partner).sum()
        gradients = torch.autograd.grad(total, (z, b))
    ascent = zip((z, b), gradients, strict=True)
    return moved(latents, *(sign_step(x, g, step=step, bound=bound) for x, g in ascent))


def score(
    before: torch.Tensor,
    after: torch.Tensor,
    labels: torch.Tensor,
    features: torch.Tensor,
    partner: torch.Tensor,
) -> torch.Tensor:
    """(B,): entropy gained, plus the label's probability, plus diversity.

    H(p') - H(p) + p'[label] + KL(s' || (s' + s'') / 2), where s' and s'' are softmaxes of the
    features of the image and of a partner.

    Args:
        before, after: (B, C) class probabilities p without, and p' with the move.
        features, partner: (B, D).
    """
    own, other = features.softmax(1), partner.softmax(1)
    between = (own * (own / ((own + other) / 2)).log()).sum(1)
    label = after.gather(1, labels[:, None])[:, 0]
    return entropy(after) - entropy(before) + label + between


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """(B, C) -> (B,), in nats."""
    return -(probabilities * probabilities.clamp(min=1e-12).log()).sum(1)


def draw_affine(
    latents: torch.Tensor, seeds: list[int], purpose: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """z ~ U(0, 1) and b ~ N(0, 1), (B, C, 1, 1) each, row i from seed i."""
    import torch

    rows, channels = [], latents.shape[1]
    for seed in seeds:
        generator = torch.Generator().manual_seed(derive_seed(seed, purpose))
        z = torch.rand(channels, generator=generator)
        rows.append(torch.stack([z, torch.randn(channels, generator=generator)]))
    z, b = torch.stack(rows, 1)[..., None, None].to(latents.device, latents.dtype)
    return z, b


def moved(latents: torch.Tensor, z: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(1 + z) f + b, by channel."""
    return (1 + z) * latents + b


def sign_step(
    x: torch.Tensor, gradient: torch.Tensor, *, step: float, bound: float
) -> torch.Tensor:
    """x + step * sign(gradient), within -bound and bound."""
    return (x + step * gradient.sign()).clamp(-bound, bound).detach()
