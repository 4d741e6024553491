"""LPIPS (Zhang et al., 2018): a distance of images as people see them, by AlexNet's features.

It needs AlexNet's own weights (233 MB), which torchvision looks for in torch's cache of downloads.
`stage=fetch evaluation.lpips=true` fetches them; without them there is no LPIPS.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sgid.reproducibility import derive_seed
from sgid.runtime.terminal import program

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


PAIRS = 500
"""Pairs that are compared at most: each costs four passes of AlexNet's layers."""


SIDE = 64
"""Pixels along a side to which smaller images are enlarged: the least that LPIPS was made for."""


ALEXNET = 244_408_911
"""Bytes of AlexNet's weights."""


def weights_url() -> str:
    """Address of AlexNet's weights at torchvision; its name ends with the start of their hash."""
    from torchvision.models import AlexNet_Weights

    return AlexNet_Weights.DEFAULT.url


def weights_file() -> Path:
    """The file of AlexNet's weights in torch's cache; it may not exist."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights_url()).name


def fetch_weights(advance: Callable[[int], object]) -> None:
    """Fetch them; `advance` is called with their bytes at the end.

    Raises:
        FileNotFoundError: if the server does not give them.
    """
    import torch

    file = weights_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    prefix = file.stem.rpartition("-")[2]
    try:
        torch.hub.download_url_to_file(weights_url(), str(file), prefix, progress=False)
    except Exception as error:  # the network's or the disk's, of any kind
        raise FileNotFoundError(f"{weights_url()} could not be fetched: {error}") from error
    advance(file.stat().st_size)


def lacks_weights() -> str | None:
    """The message on how to fetch the weights, where they are missing."""
    if (file := weights_file()).is_file():
        return None
    return (
        f"LPIPS needs AlexNet's weights, {file}. Fetch them once: "
        f"{program()} stage=fetch evaluation.lpips=true"
    )


def load_lpips(device: torch.device) -> Callable[[Any, Any], float]:
    """Load a function of two images, uint8 (1, 3, H, W) tensors, that gives their LPIPS.

    Raises:
        FileNotFoundError: if the weights are not there; torch would begin to download them.
    """
    if lacking := lacks_weights():
        raise FileNotFoundError(lacking)
    import torch
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    network = LearnedPerceptualImagePatchSimilarity("alex").net.to(device)

    def distance(first: torch.Tensor, second: torch.Tensor) -> float:
        with torch.inference_mode():
            scaled = [one.to(device).float() / 127.5 - 1 for one in (first, second)]
            return float(network(*scaled))

    return distance


def pairs_within(group: NDArray, *, limit: int = PAIRS, seed: int = 0) -> NDArray[np.int64]:
    """(P, 2) rows of the pairs within the groups (N,): all of them, or `limit` drawn by `seed`."""
    order = np.argsort(group, kind="stable")
    _, starts, counts = np.unique(group[order], return_index=True, return_counts=True)
    rng = np.random.default_rng(derive_seed(seed, "pairs"))
    every = counts * (counts - 1) // 2
    chosen = np.arange(every.sum())
    if len(chosen) > limit:
        chosen = np.sort(rng.choice(len(chosen), limit, replace=False))
    ends = np.cumsum(every)
    where = np.searchsorted(ends, chosen, side="right")
    pairs = np.zeros((len(chosen), 2), np.int64)
    for row, (which, number) in enumerate(zip(where, chosen - (ends - every)[where], strict=True)):
        first, second = np.triu_indices(int(counts[which]), 1)
        members = order[starts[which] : starts[which] + counts[which]]
        pairs[row] = members[first[number]], members[second[number]]
    return pairs


def perceptual_distance(
    pairs: NDArray[np.int64], image: Callable[[int], Image], lpips: Callable[[Any, Any], float]
) -> float | None:
    """Mean LPIPS of pairs of images; `None` without a pair.

    Args:
        pairs: (P, 2) numbers of images.
        image: from a number to an RGB image; those of a pair are of one size.
        lpips: what `load_lpips` gives.
    """
    distances = [lpips(_pixels(image(int(a))), _pixels(image(int(b)))) for a, b in pairs]
    return float(np.mean(distances)) if distances else None


def _pixels(picture: Image) -> torch.Tensor:
    """uint8 (1, 3, H, W), of 64 px at least along the shorter side."""
    import torch
    from PIL.Image import Resampling

    if (shorter := min(picture.size)) < SIDE:
        width, height = (round(side * SIDE / shorter) for side in picture.size)
        picture = picture.resize((width, height), Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
