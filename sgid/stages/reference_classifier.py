"""`evaluation.classifier`: the classifier of a run on real images, which labels generated ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.errors import HydraException
from hydra.utils import instantiate
from numpy.typing import NDArray

from sgid.config.compose import CONF, compose
from sgid.config.targets import OPTION as ALLOW
from sgid.config.targets import with_short_names
from sgid.data.dataset import Dataset
from sgid.models.weights import Weights, locate
from sgid.reporting.arms import generates
from sgid.reporting.results import Result, load_result
from sgid.runtime.terminal import progress

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from sgid.training.classifier import Classifier


OPTION = "evaluation.classifier"
HOW = f"{OPTION} takes the result folder of a run without generated images, such as aug=flip_crop"
BATCH = 256


@dataclass(frozen=True)
class ReferenceClassifier:
    """The trained classifier of a finished run, applied to images of `dataset`.

    `same_originals` says whether it was trained on exactly the images that others were generated
    from; if not, it may still have seen some of them. It is loaded at its first use.
    """

    result: Result
    backbone: Any
    weights: Weights | None
    dataset: Dataset
    device: torch.device
    same_originals: bool

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its run."""
        return self.result.fingerprint

    @property
    def summary(self) -> dict[str, Any]:
        """Its run and test accuracy (top-1 in percent), for reports."""
        result = self.result
        return {
            "fingerprint": result.fingerprint,
            "aug": list(result.aug),
            "backbone": result.choices["backbone"],
            "top1": result.metrics["test/top1"],
            "same_originals": self.same_originals,
        }

    def predictions(self, image: Callable[[int], Image], count: int) -> NDArray[np.int64]:
        """(count,) predicted classes of `image(0)` to `image(count - 1)`, seen as test images."""
        import torch

        from sgid.training.transforms import evaluation_transform

        transform = evaluation_transform(self._size)
        predicted = []
        with torch.inference_mode(), progress("classify", count, "images") as bar:
            for start in range(0, count, BATCH):
                rows = range(start, min(start + BATCH, count))
                batch = torch.stack([transform(image(row)) for row in rows])
                logits = self._classifier(batch.to(self.device))
                predicted.append(logits.argmax(1).cpu().numpy())
                bar.update(len(rows))
        return np.concatenate(predicted)

    @cached_property
    def _network(self) -> Any:
        return instantiate(self.backbone.model)

    @cached_property
    def _size(self) -> int:
        from sgid.training.backbones import image_size

        folder = self.weights and self.weights.folder
        return self.backbone.image_size or image_size(self._network, folder, self.dataset.train)

    @cached_property
    def _classifier(self) -> Classifier:
        import torch

        from sgid.training.classifier import Classifier

        backbone = self.backbone
        network = self._network(
            class_names=self.dataset.phrases,
            image_size=self._size,
            weights=self.weights and self.weights.folder,
            seed=0,
        )
        classifier = Classifier(
            network,
            optimizer=instantiate(backbone.optimizer),
            trained=backbone.trained,
            layer_decay=backbone.layer_decay,
            steps=1,
            warmup=backbone.warmup,
            label_smoothing=backbone.label_smoothing,
            batch_transform=None,
            num_classes=len(self.dataset.class_names),
        )
        state = torch.load(_checkpoint(self.result), map_location="cpu", weights_only=True)
        classifier.load_state_dict(state["state_dict"])
        return classifier.to(self.device).eval()


def find_reference_classifier(
    folder: str, dataset: Dataset, device: torch.device, allowed: Sequence[str] = ()
) -> ReferenceClassifier:
    """The classifier of the run in `folder`, if it can label images of `dataset`.

    Its backbone may be built by code of the packages `allowed`, whatever the run itself once
    allowed.

    Raises:
        ValueError: if there is no finished run, or it was trained on generated images, on other
            classes, or with a backbone or weights that are not here any more, or by code that is
            not to be called.
    """
    try:
        result = load_result(Path(folder).expanduser())
    except ValueError as error:
        raise ValueError(f"{OPTION}={folder}: {error}. {HOW}") from error
    if generates(result.config, result.aug):
        raise ValueError(f"{OPTION}={folder}: its aug={','.join(result.aug)} generates. {HOW}")
    tested = set(dataset.test.labels)
    ours = [name for label, name in enumerate(dataset.class_names) if label in tested]
    if (theirs := list(result.class_accuracy)) != ours:
        raise ValueError(
            f"{OPTION}={folder} was trained on {result.choices['dataset']}, with {len(theirs)} "
            f"classes ({', '.join(theirs[:3])} ...); the images are of {dataset.name}, with "
            f"{len(ours)} ({', '.join(ours[:3])} ...)"
        )
    if not (checkpoint := _checkpoint(result)).is_file():
        raise ValueError(f"{OPTION}={folder}: {checkpoint} is not there any more")
    try:
        backbone = compose([*_options(result), f"{ALLOW}=[{','.join(allowed)}]"]).backbone
    except HydraException as error:
        raise ValueError(
            f"{OPTION}={folder}: the options of that run mean nothing in {CONF} any more. If it "
            "was started with --config-dir, it cannot be used: take a run of sgid's own choices\n"
            f"{str(error).strip()}"
        ) from error
    weights = backbone.weights and locate(**asdict(backbone.weights), option=f"{OPTION}'s weights")
    was = with_short_names({**asdict(backbone), "weights": weights and weights.identity})
    if was != result.config["backbone"]:
        changed = [key for key in was if was[key] != result.config["backbone"].get(key)]
        raise ValueError(
            f"{OPTION}={folder}: what makes its backbone has changed since "
            f"({', '.join(f'backbone.{key}' for key in changed)}); run it again"
        )
    same_originals = _trained_on(result) == dataset.train.digest()
    return ReferenceClassifier(result, backbone, weights, dataset, device, same_originals)


def _trained_on(result: Result) -> str | None:
    """The digest of a run's training images, if its spec is there."""
    path = result.folder / "spec.json"
    return json.loads(path.read_text(encoding="utf-8"))["images"][0] if path.is_file() else None


def _options(result: Result) -> list[str]:
    """Overrides of the run but those that permit code: its folder may come from a stranger."""
    return [one for one in result.overrides if not one.lstrip("+~").startswith((ALLOW, "hydra"))]


def _checkpoint(result: Result) -> Path:
    return result.folder / "checkpoints" / "best.ckpt"
