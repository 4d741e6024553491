"""The images of a run; `stage=data` checks them and shows what there is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sgid.config.schema import DatasetConfig
from sgid.data import dataset as datasets
from sgid.data.captions import OPTION as CAPTIONS
from sgid.data.dataset import Dataset
from sgid.data.image_set import ImageSet
from sgid.evaluation.store_summary import spread
from sgid.runtime.files import write_atomic
from sgid.stages.preflight import Prepared

SIZES = 500
"""Images of each split that are measured."""
CLASSES, PER_CLASS = 24, 6


def load(chosen: DatasetConfig, ready: Prepared, *, seed: int, artifacts: Path) -> Dataset:
    """The images of a run, each read once and divided as the protocol of `dataset` says.

    Raises:
        ValueError: for a table of classes, or captions, where the source takes none, and as
            `load_dataset` does.
    """
    if chosen.classes and "classes" not in chosen.source:
        raise ValueError(
            f"dataset.classes={chosen.classes}: {chosen.name} has words of its own; a table is for "
            "dataset=folder and dataset=hub"
        )
    if chosen.captions and "captions" not in chosen.source:
        raise ValueError(
            f"{CAPTIONS}={chosen.captions}: {chosen.name} has no captions; they are for "
            "dataset=folder"
        )
    return datasets.load_dataset(
        ready.splits,
        ready.protocol,
        name=chosen.name,
        noun=chosen.noun,
        max_bad=chosen.max_bad,
        seed=seed,
        cache=artifacts / "scans",
        full_scale=chosen.full_scale,
        strict=chosen.strict,
        size=chosen.size,
    )


def say(dataset: Dataset, console: Console) -> None:
    """Print in one line what was understood, and what is to be remarked."""
    console.print(dataset.protocol["understood"], markup=False, highlight=False)
    for remark in dataset.protocol["remarks"]:
        console.print(f"{dataset.name}: {remark}", style="yellow", markup=False, highlight=False)


def show(dataset: Dataset, artifacts: Path, console: Console) -> None:
    """Print what each part holds and what was understood; leave a picture of the classes in
    `artifacts`/data.
    """
    console.print(_table(dataset))
    names = ", ".join(dataset.phrases[:8])
    more = f" and {len(dataset.phrases) - 8:,} more" if len(dataset.phrases) > 8 else ""
    console.print(f"{len(dataset.phrases):,} classes, in prompts: {names}{more}", markup=False)
    if described := [text for text in dataset.texts if text.description]:
        first = f"{described[0].words}: {described[0].description}"
        console.print(f"{len(described):,} have a description, as {first}", markup=False)
    if own := [dataset.captions[key] for key in dataset.train.keys if key in dataset.captions]:
        first = f"{len(own):,} of {len(dataset.train):,} training images have own captions, as "
        console.print(first + repr(own[0][0]), markup=False)
    if dataset.protocol["note"]:
        console.print(dataset.protocol["note"], markup=False)
    if dataset.protocol["ignored_files"]:
        console.print(f"{dataset.protocol['ignored_files']:,} files are no images of the set")
    say(dataset, console)
    path = artifacts / "data" / f"{dataset.name}.png"
    write_atomic(path, _picture(dataset.train))
    console.print(f"picture: {path}", highlight=False, markup=False)


def _table(dataset: Dataset) -> Table:
    table = Table(title=Text(dataset.name), title_justify="left", box=box.SIMPLE_HEAD)
    for header in ("part", "images", "per class", "size in px", "from"):
        table.add_column(header, overflow="fold")
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for part, images in parts.items():
        held = Counter(images.labels)
        counts = [held[label] for label in range(len(images.class_names))]
        table.add_row(
            part,
            f"{len(images):,}",
            _range(min(counts), max(counts)),
            _sizes(images),
            Text(dataset.protocol[f"{part}_from"]),
        )
    return table


def _sizes(images: ImageSet) -> str:
    """Width × height of some images of each class: `80–500 × 60–500, median 300 × 225`."""
    sizes = [images[i].image.size for i in spread(images, SIZES)]
    widths, heights = zip(*sizes, strict=True)
    text = f"{_range(min(widths), max(widths))} × {_range(min(heights), max(heights))}"
    if len(set(sizes)) > 1:
        text += f", median {median(widths):.0f} × {median(heights):.0f}"
    return text


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _picture(images: ImageSet) -> bytes:
    """PNG: some images of each of the first classes."""
    from sgid.reporting.figure_files import encode
    from sgid.reporting.image_grids import class_grid

    groups = {}
    for label, name in enumerate(images.class_names[:CLASSES]):
        members = [i for i, own in enumerate(images.labels) if own == label]
        groups[name] = [images[i].image for i in members[:PER_CLASS]]
    hidden = max(0, len(images.class_names) - CLASSES)
    return encode(class_grid(groups, hidden=hidden))
