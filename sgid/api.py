"""The Python interface, for notebooks and training code of one's own: run, open a store, draw.

Everything here is also `sgid.NAME`. Options are those of the command line, a string each.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from PIL import Image

from sgid.cli import run_config
from sgid.config.compose import compose as _compose
from sgid.config.compose import compose_choices
from sgid.config.schema import Config
from sgid.data.dataset import Dataset
from sgid.data.decode import decode
from sgid.data.image_set import ImageSet
from sgid.evaluation.store_summary import png
from sgid.models.loader import Loaded
from sgid.reporting.results import Example, Result, load_result
from sgid.stages.augment import Augmentation
from sgid.stages.export import portable
from sgid.stages.preflight import check_models
from sgid.stages.run import prepare
from sgid.store.reviews import read_reviews, rejected, rejected_rows
from sgid.store.tables import (
    accepted,
    open_generated,
    source_digest,
    stored_class_names,
    stored_images,
)

if TYPE_CHECKING:
    import datasets
    from matplotlib.figure import Figure

PARTS = ("generated", "originals", "both")


def compose(*options: str) -> Config:
    """The typed config of `sgid OPTIONS`.

    Raises:
        ValueError: if it names code that is not to be called.
    """
    return _compose(options)


def run(*options: str) -> Result | None:
    """Run `sgid OPTIONS` in this process; the result, or `None` for stages that leave none.

    What is done is not done again, and models stay in memory for the next run. A sweep is a loop.

    Raises:
        ValueError, FileNotFoundError: for what the caller can correct.
    """
    config, choices = compose_choices(options)
    folder = run_config(config, choices, list(options), _loaded())
    return load_result(folder) if folder and (folder / "result.json").is_file() else None


@cache
def _loaded() -> Loaded:
    """The models that all calls of this process share."""
    return Loaded()


@final
class LabelledImages(torch.utils.data.Dataset):
    """Labelled images as a map-style dataset of PyTorch; decoded when they are asked for.

    Item `i` is `(image, label)`. `image` is a PIL image in RGB, or what `transform` makes of it;
    `label` is an `int` in [0, C), or with `label_weights` a float32 tensor (C,) that sums to 1.
    It may be sent to loading processes.
    """

    def __init__(
        self,
        parts: Mapping[str, ImageSet],
        class_names: Sequence[str],
        *,
        transform: Callable[[Image.Image], Any] | None = None,
        label_weights: bool = False,
    ) -> None:
        self.parts = dict(parts)
        self.class_names = tuple(class_names)
        self.transform = transform
        self.label_weights = label_weights
        self._ends = list(accumulate(map(len, self.parts.values())))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        _, images, inside = self.place(index)
        sample = images[inside]
        image = sample.image if self.transform is None else self.transform(sample.image)
        if not self.label_weights:
            return image, sample.label
        weights = torch.zeros(len(self.class_names))
        for label, weight in _weights(images, inside).items():
            weights[label] = weight
        return image, weights

    def place(self, index: int) -> tuple[str, ImageSet, int]:
        """The part that an item is of (`generated` or `originals`), its images, and its index
        there. Keys are `images.keys[index]`; a generated image's is `<original's>#<repeat>`.
        """
        index = range(len(self))[index]
        start = 0
        for (part, images), end in zip(self.parts.items(), self._ends, strict=True):
            if index < end:
                return part, images, index - start
            start = end
        raise IndexError(index)


def _weights(images: ImageSet, index: int) -> Mapping[int, float]:
    if images.label_weights is None:
        return {images.labels[index]: 1.0}
    return images.label_weights[index]


def open_store(
    path: str | Path,
    *options: str,
    which: str = "generated",
    transform: Callable[[Image.Image], Any] | None = None,
    label_weights: bool = False,
) -> LabelledImages:
    """Open a complete store of generated images, without those that people rejected, or that the
    method's own selection refused.

    Args:
        path: artifacts/generated/<fingerprint>, which `run(...).generated` names.
        options: those of the run that made it; needed for its originals alone.
        which: `generated`, `originals` (the training images), or `both`, generated ones first.
        transform: called with each image, PIL in RGB.
        label_weights: whether labels are weights (C,), for methods that mix classes.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no such store, or the options are not those of its originals.
    """
    if which not in PARTS:
        raise ValueError(f"which={which}: must be one of {', '.join(PARTS)}")
    store = open_generated(Path(path), option="path")
    names, parts = stored_class_names(store), {}
    if options or which != "generated":
        train = prepare(_compose([*options, "stage=data"]), {}, []).dataset.train
        if train.digest() != source_digest(store):
            raise ValueError(
                f"{path} was not made of the {len(train):,} training images that these options "
                f"give ({' '.join(options) or 'none'}): give those of the run that made it, such "
                "as dataset=folder, dataset.root=DIR, dataset.shots=10, seed=0"
            )
        names = train.class_names
        parts["originals"] = train
    if which != "originals":
        images = stored_images(store, names)
        left = np.ones(len(images), bool) if (passed := accepted(store)) is None else passed
        if lost := rejected(read_reviews(store.folder)):
            left = left & ~rejected_rows(store, lost)
        images = images if left.all() else images.select(np.flatnonzero(left).tolist())
        parts = {"generated": images, **parts}
    if which == "generated":
        parts.pop("originals", None)
    return LabelledImages(parts, names, transform=transform, label_weights=label_weights)


def as_datasets(images: LabelledImages, *, cache: str | Path | None = None) -> datasets.Dataset:
    """The same images as a `datasets.Dataset`, in their order; no transform is applied.

    Its columns: `image` (encoded), `label` (a ClassLabel), `label_weights` (C,), `key` and
    `synthetic`. It is an Arrow file in `cache`, by default the cache of `datasets`.
    """
    from datasets import ClassLabel, Features, Sequence, Value
    from datasets import Dataset as Table
    from datasets import Image as ImageFeature

    columns: dict[str, Any] = {
        "image": ImageFeature(),
        "label": ClassLabel(names=list(images.class_names)),
        "label_weights": Sequence(Value("float32"), length=len(images.class_names)),
        "key": Value("string"),
        "synthetic": Value("bool"),
    }
    return Table.from_generator(
        _rows,
        features=Features(columns),
        cache_dir=str(cache) if cache is not None else None,  # pyright: ignore
        gen_kwargs={"images": images},
    )  # pyright: ignore[reportReturnType]


def _rows(images: LabelledImages) -> Any:
    for index in range(len(images)):
        part, own, inside = images.place(index)
        data, extension = portable(own, inside)
        weights = [0.0] * len(images.class_names)
        for label, weight in _weights(own, inside).items():
            weights[label] = weight
        yield {
            "image": {"bytes": data, "path": f"{index}.{extension}"},
            "label": own.labels[inside],
            "label_weights": weights,
            "key": own.keys[inside],
            "synthetic": part == "generated",
        }


@final
@dataclass(frozen=True)
class Drawn:
    """An image drawn from one of the caller's own, and what steered it.

    `original` is the index of that one. `similarity`, of its caption, is a cosine in [-1, 1];
    NaN where the method has no captions, as is `guidance_scale` where that would follow it.
    """

    image: Image.Image
    original: int
    class_name: str
    method: str
    prompt: str
    caption: str
    similarity: float
    guidance_scale: float
    strength: float
    seed: int


def draw(
    images: Sequence[Image.Image],
    classes: Sequence[str],
    *options: str,
    artifacts: str | Path | None = None,
) -> list[Drawn]:
    """Draw new versions of a few images, with any methods: `expansion` of each by each of `aug`.

    Args:
        images: PIL images of any size and mode.
        classes: the class of each, in the words of a prompt.
        options: such as `aug=sgid`, `models=sd15`, `noise_rate=0.7`, `expansion=2`.
        artifacts: the folder of captions and images; by default they are not left anywhere.

    Raises:
        ValueError, FileNotFoundError: for what the caller can correct; weights that are missing
            are named with the command that fetches them.
    """
    if not images or len(images) != len(classes):
        raise ValueError(f"{len(images)} images and {len(classes)} classes: give one class of each")
    config = _compose(options)
    base = prepare(config, {}, list(options), loaded=_loaded())
    if not base.augmentations:
        raise ValueError(f"aug={','.join(config.aug)}: none of them generates images; see aug=sgid")
    check_models(config, base.ready)
    own = _own_images(images, classes, noun=config.dataset.noun)
    with ExitStack() as stack:
        place = artifacts or stack.enter_context(tempfile.TemporaryDirectory())
        drawn = []
        for one in base.augmentations:
            settings = replace(one.settings, artifacts=Path(place))
            augmentation = Augmentation(one.method, own, one.models, settings)
            augmentation.make()
            for row in augmentation.generated.read().to_pylist():
                same = {name: row[name] for name in Drawn.__annotations__ if name in row}
                image = decode(row["image"]["bytes"])
                drawn.append(Drawn(**{**same, "image": image, "original": int(row["key"])}))
        return drawn


def _own_images(images: Sequence[Image.Image], classes: Sequence[str], *, noun: Any) -> Dataset:
    names = tuple(sorted(set(classes)))
    data = [png(image.convert("RGB")) for image in images]
    own = ImageSet(
        keys=tuple(f"{index:06}" for index in range(len(images))),
        labels=[names.index(name) for name in classes],
        checksums=tuple(hashlib.sha256(one).hexdigest() for one in data),
        class_names=names,
        rows=range(len(images)),
        read=data.__getitem__,
    )
    return Dataset("images of one's own", own, own, own, names, noun, {})


def look(images: Sequence[Image.Image], drawn: Sequence[Drawn], *, repeats: int = 5) -> Figure:
    """A figure: a row for each original and method, up to `repeats` drawn images to its right."""
    from sgid.reporting.image_grids import example_grid

    rows: dict[tuple[int, str], list[Drawn]] = {}
    for one in drawn:
        rows.setdefault((one.original, one.method), []).append(one)
    shared = ("method", "class_name", "caption", "similarity", "prompt", "guidance_scale")
    return example_grid(
        [
            Example(
                **{name: getattr(some[0], name) for name in (*shared, "strength")},
                key=str(index),
                original=png(images[index].convert("RGB")),
                images=tuple(png(one.image) for one in some),
                kept=(True,) * len(some),
            )
            for (index, _), some in sorted(rows.items(), key=lambda row: row[0][0])
        ],
        repeats=repeats,
    )
