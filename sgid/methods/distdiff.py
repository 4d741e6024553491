"""DistDiff: latents moved towards prototypes of their class (Zhu et al., NeurIPS 2024).

Early in the denoising the latents f become (1 + z) f + b, by channel. z and b follow the gradient
of an energy of the image that is predicted a few steps on: its distance to the mean of its class
and to the nearest of the class's local centres (arXiv 2403.06741).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sgid.methods.gif import moved
from sgid.methods.probe import embed_all, unit
from sgid.runtime.batching import by_rows
from sgid.runtime.files import atomic_path

if TYPE_CHECKING:
    import torch

    from sgid.data.image_set import ImageSet
    from sgid.generation.hooks import LatentState

FILE = "prototypes.npz"


def prototypes(
    images: ImageSet,
    phrases: Sequence[str],
    models: Any,
    folder: Path,
    *,
    seed: int,
    centres: int,
) -> None:
    """Leave the mean (C, D) and the local centres (C, K, D) of each class's CLIP features.

    A class of fewer than K images has some of its centres twice.
    """
    features, labels = embed_all(images, models.scorer), np.asarray(images.labels)
    means = np.zeros((len(phrases), features.shape[1]))
    local = np.zeros((len(phrases), centres, features.shape[1]))
    for label in np.unique(labels):
        own = features[labels == label]
        means[label] = unit(own.mean(0))
        found = local_centres(own, centres)
        local[label] = found[np.arange(centres) % len(found)]
    with atomic_path(folder / FILE) as partial_file, partial_file.open("wb") as stream:
        np.savez(stream, means=means, local=local)


def local_centres(features: NDArray, count: int) -> NDArray:
    """(K, D) unit means of the clusters of features (N, D), K at most `count`.

    Agglomerative clustering with average linkage.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(features) == 1:
        return unit(features)
    clusters = fcluster(linkage(features, "average"), count, "maxclust")
    return unit(np.stack([features[clusters == one].mean(0) for one in np.unique(clusters)]))


def near_prototypes(
    state: LatentState,
    artifact: Path | None,
    *,
    left: float,
    ahead: int,
    rho: float,
    bound: float,
    at_once: int = 8,
) -> torch.Tensor | None:
    """Move the latents once, when the share `left` of the noise schedule's steps is still to run.

    Args:
        ahead: the steps that the denoiser looks ahead.
        rho: the step size; z and b stay within -`bound` and `bound`.
    """
    if state.done != max(1, round(state.steps * (1 - left))) or state.done == state.steps:
        return None
    import torch

    assert artifact is not None
    with np.load(artifact / FILE) as arrays:
        means, local = (
            torch.from_numpy(arrays[name]).float().to(state.latents.device)
            for name in ("means", "local")
        )
    return by_rows(
        len(state.latents),
        at_once,
        partial(_moved, state, means=means, local=local, ahead=ahead, rho=rho, bound=bound),
    )


def _moved(
    state: LatentState,
    rows: slice,
    *,
    means: torch.Tensor,
    local: torch.Tensor,
    ahead: int,
    rho: float,
    bound: float,
) -> torch.Tensor:
    """The new latents (b, C, h, w) of some rows."""
    import torch

    assert state.features is not None
    latents = state.latents[rows].detach().clone()
    labels = torch.tensor([one.label for one in state.requests[rows]], device=latents.device)
    shape = (*latents.shape[:2], 1, 1)
    z, b = (latents.new_zeros(shape).requires_grad_() for _ in range(2))
    with torch.enable_grad():
        clean = state.go_on(moved(latents, z, b), rows, ahead)
        features = state.features(state.decode(clean)).float()
        total = energy(features, means[labels], local[labels]).sum()
        gradients = torch.autograd.grad(total, (z, b))
    descent = zip((z, b), gradients, strict=True)
    return moved(latents, *(bounded_step(x, g, rho=rho, bound=bound) for x, g in descent))


def energy(features: torch.Tensor, mean: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
    """(B,): the distance to the class mean plus that to the nearest local centre.

    Args:
        features, mean: (B, D) unit vectors.
        local: (B, K, D).
    """
    to_local = (features[:, None] - local).norm(dim=2).min(1).values
    return (features - mean).norm(dim=1) + to_local


def bounded_step(
    x: torch.Tensor, gradient: torch.Tensor, *, rho: float, bound: float
) -> torch.Tensor:
    """x - rho * gradient, within -bound and bound."""
    return (x - rho * gradient).clamp(-bound, bound).detach()
