"""`evaluation.classifier`: a run on real images, whose classifier judges generated ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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


OPTION = "evaluation.classifier"


HOW = f"{OPTION} takes the result folder of a run without generated images, such as aug=flip_crop"


BATCH = 256


@dataclass(frozen=True)
class ReferenceClassifier:
    """A run whose classifier judges, and where its weights lie.

    `same_originals` says whether it was trained on just the images that others were generated
    from; if not, it may still know some of them.
    """

    result: Result
    backbone: Any
    weights: Weights | None
    same_originals: bool

    @property
    def told(self) -> dict[str, Any]:
        """Which run it is, for reports."""
        result = self.result
        return {
            "fingerprint": result.fingerprint,
            "aug": list(result.aug),
            "backbone": result.choices["backbone"],
            "top1": result.metrics["test/top1"],
            "same_originals": self.same_originals,
        }


def find_reference_classifier(
    folder: str, dataset: Dataset, allowed: Sequence[str] = ()
) -> ReferenceClassifier:
    """The run in `folder`, if its classifier can judge images of `dataset`.

    Code of the packages `allowed` may make its backbone, whatever the run itself once allowed.

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
            "was started with --config-dir, it cannot judge: take a run of sgid's own choices\n"
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
    return ReferenceClassifier(
        result, backbone, weights, _trained_on(result) == dataset.train.digest()
    )


def predictions(
    judge: ReferenceClassifier,
    image: Callable[[int], Image],
    count: int,
    dataset: Dataset,
    device: torch.device,
) -> NDArray[np.int64]:
    """(count,) the class that the judge gives each image, seen as test images are."""
    import torch

    from sgid.training.backbones import image_size
    from sgid.training.classifier import Classifier
    from sgid.training.transforms import evaluation_transform

    backbone, weights = judge.backbone, judge.weights
    make, folder = instantiate(backbone.model), weights.folder if weights else None
    size = backbone.image_size or image_size(make, folder, dataset.train)
    network = make(class_names=dataset.phrases, image_size=size, weights=folder, seed=0)
    classifier = Classifier(
        network,
        optimizer=instantiate(backbone.optimizer),
        trained=backbone.trained,
        layer_decay=backbone.layer_decay,
        steps=1,
        warmup=backbone.warmup,
        label_smoothing=backbone.label_smoothing,
        batch_transform=None,
    )
    state = torch.load(_checkpoint(judge.result), map_location="cpu", weights_only=True)
    classifier.load_state_dict(state["state_dict"])
    classifier.to(device).eval()
    shaped, found = evaluation_transform(size), []
    with torch.inference_mode(), progress("classify", count, "images") as bar:
        for rows in _batches(count):
            batch = torch.stack([shaped(image(row)) for row in rows])
            found.append(classifier(batch.to(device)).argmax(1).cpu().numpy())
            bar.update(len(rows))
    return np.concatenate(found)


def _trained_on(result: Result) -> str | None:
    """The digest of a run's training images, if its spec is there."""
    path = result.folder / "spec.json"
    return json.loads(path.read_text(encoding="utf-8"))["images"][0] if path.is_file() else None


def _options(result: Result) -> list[str]:
    """What the run was told, without what says whose code is called: a run may be a stranger's."""
    return [one for one in result.overrides if not one.lstrip("+~").startswith((ALLOW, "hydra"))]


def _checkpoint(result: Result) -> Path:
    return result.folder / "checkpoints" / "best.ckpt"


def _batches(count: int) -> list[Sequence[int]]:
    return [range(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]
