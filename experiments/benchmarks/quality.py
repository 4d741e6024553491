"""Cost in quality of a faster setting: the same requests with each, scored by the bundled CLIP.

Four figures, none of which tells all:

- `agreement`: percentage of images whose nearest class name, zero-shot, is their label;
- `cosine`: mean similarity of an image to its original;
- `distance`: how far the images of a class are from real ones that the models have not seen: 1,000
  times the squared maximum mean discrepancy (Gretton et al., 2012) of their embeddings, with the
  polynomial kernel of KID (Bińkowski et al., 2018), as the mean over the classes. It is unbiased:
  0 on average for another draw of real images;
- `off`: mean absolute difference to what a reference setting gives for the same requests, in grey
  levels.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgid.config.compose import compose
from sgid.records import Request

COLUMNS = ("images/s", "agreement (%)", "cosine", "distance", "off (grey levels)")


@dataclass(frozen=True)
class Measured:
    """Metrics of the images of one setting; `off` is `None` without a reference."""

    rate: float
    agreement: float
    cosine: float
    distance: float
    off: float | None

    def cells(self) -> tuple[str, ...]:
        """Cells of a row, in the order of `COLUMNS`."""
        off = "" if self.off is None else f"{self.off:.2f}"
        return (
            f"{self.rate:.3g}", f"{self.agreement:.1f}", f"{self.cosine:.3f}",
            f"{self.distance:.2f}", off,
        )  # fmt: skip

    def values(self) -> dict[str, float | None]:
        return asdict(self)


class Setting:
    """Requests of the bundled default, one for each of `images` originals, and who judges them."""

    def __init__(self, images: int, *, noise_rate: float, device: str, artifacts: Path) -> None:
        from sgid.stages.run import prepare

        config = compose(
            [
                "aug=sgid", f"noise_rate={noise_rate}", "expansion=1",
                f"dataset.shots={-(-images // 10)}", f"trainer.device={device}",
                f"paths.artifacts={artifacts}",
            ]
        )  # fmt: skip
        run = prepare(config, {}, [])
        self.config = config
        self.dataset, self.models = run.dataset, run.models
        self.folder = run.ready.weights["models.generator"].folder
        plan = run.augmentations[0].plan()
        self.requests: list[Request] = list(plan.requests(range(images)))

    def engine(self, **options: Any) -> Any:
        """An engine of the bundled weights with these options, others as the config has them."""
        import torch

        from sgid.generation.stable_diffusion import StableDiffusionEngine

        generator = self.config.models.generator
        settings: dict[str, Any] = {
            "steps": self.config.steps,
            "scheduler": generator.scheduler,
            "resolution": generator.resolution,
            "batch_size": generator.batch_size,
            "device": self.models.device,
            "dtype": torch.float32,
        }
        return StableDiffusionEngine(self.folder, **{**settings, **options})

    def draw(self, engine: Any) -> tuple[NDArray[np.uint8], float]:
        """The images (N, H, W, 3) in the order of the requests, and how many came in a second."""
        started = time.perf_counter()
        made = {one.request.described.key: one.image for one in engine.generate(self.requests)}
        rate = len(made) / (time.perf_counter() - started)
        return np.stack([np.asarray(made[one.described.key]) for one in self.requests]), rate

    def measure(
        self, images: NDArray[np.uint8], *, rate: float, like: NDArray[np.uint8] | None = None
    ) -> Measured:
        """Metrics of these images; `like` are those of the reference."""
        from PIL import Image

        from sgid.evaluation.filters import clip_scores

        vectors = self.models.scorer.embed_images([Image.fromarray(image) for image in images])
        origin = np.arange(len(images))
        labels = np.array([request.label for request in self.requests])
        scores = clip_scores(vectors, origin, self._originals, labels, self._classes)
        agreement = 100 * float((scores.nearest == labels).mean())
        off = None if like is None else float(np.abs(images - like.astype(np.float32)).mean())
        distance = self._distance(vectors)
        return Measured(rate, agreement, float(scores.cosines.mean()), distance, off)

    def floor(self) -> float:
        """The distance of the originals themselves to the unseen images: what chance makes of 0."""
        return self._distance(self._originals)

    def _distance(self, vectors: NDArray[np.float32]) -> float:
        ours = np.array([request.label for request in self.requests])
        real = np.array(self.dataset.validation.labels)
        return float(
            np.mean(
                [discrepancy(vectors[ours == c], self._real[real == c]) for c in np.unique(ours)]
            )
        )

    @cached_property
    def _originals(self) -> NDArray[np.float32]:
        return self.models.scorer.embed_images([one.init_image for one in self.requests])

    @cached_property
    def _classes(self) -> NDArray[np.float32]:
        from sgid.evaluation.store_summary import CLASS_PROMPT

        phrases = self.dataset.phrases
        return self.models.scorer.embed_texts([CLASS_PROMPT.format(one) for one in phrases])

    @cached_property
    def _real(self) -> NDArray[np.float32]:
        """Real images that neither the bundled models nor the requests were made from."""
        from sgid.evaluation.features import embed

        return embed(self.dataset.validation, self.models.scorer)


def discrepancy(ours: NDArray, real: NDArray) -> float:
    """1,000 times the unbiased squared MMD of two sets of unit vectors, (N, D) and (M, D).

    The kernel is (x·y + 1)³: KID's, with unit vectors in place of a division by D.
    """

    def within(vectors: NDArray) -> float:
        kernel = (vectors @ vectors.T + 1.0) ** 3
        count = len(vectors)
        return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))

    ours, real = ours.astype(np.float64), real.astype(np.float64)
    across = float(((ours @ real.T + 1.0) ** 3).mean())
    return 1000 * (within(ours) + within(real) - 2 * across)
