"""A study from options as `run.py` takes them: what the stores hold, without the methods' names."""

from __future__ import annotations

import io
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image

import sgid
from sgid.human_study.questions import (
    CHECKS,
    CONSISTENCY,
    SHOWN,
    UNCHANGED,
    Question,
    choose,
    kinds,
    originals,
)
from sgid.human_study.study import FILE, Picture, must_be_new, write_study
from sgid.reporting.format import command
from sgid.reproducibility import derive_seed

if TYPE_CHECKING:
    from sgid.data.image_set import ImageSet
    from sgid.store.store import Store


LARGEST = 768
"""Pixels along the longer side of an image in a study; larger ones are made smaller."""


def build(
    options: Sequence[str], *, questions: int, seed: int, folder: Path | None
) -> tuple[Path, list[str]]:
    """The folder of a new study, and what is in it, a line each.

    `folder` defaults to `<paths.artifacts>/human/<dataset>`.

    Raises:
        ValueError: for options that cannot be asked about.
        FileNotFoundError: with the command that makes them, if stores are not complete.
        FileExistsError: if the folder has a study.
    """
    from sgid.config.compose import compose
    from sgid.config.schema import in_slot
    from sgid.stages.run import prepare

    config = compose(options)
    methods = list(in_slot(config.aug, "offline"))
    if not methods:
        raise ValueError(
            f"aug=[{','.join(config.aug)}] generates no images to rate: "
            "name generative methods, as in aug=[sgid,text2img_label]"
        )
    # Early: what follows takes a while.
    folder = folder or Path(config.paths.artifacts) / "human" / config.dataset.name
    must_be_new(folder / FILE)
    config = replace(config, backbone=replace(config.backbone, weights=None))  # none is trained
    run = prepare(config, {}, [])
    dataset = run.dataset
    count = originals(questions, len(methods), config.expansion, len(dataset.train))
    stores = {one.method.name: one.generated for one in run.augmentations}
    if lacking := [method for method, store in stores.items() if not store.complete]:
        again = command([*options, "stage=augment"])
        raise FileNotFoundError(
            f"{', '.join(lacking)}: not all images have been generated. This makes them:\n{again}"
        )
    each = len(dataset.train) * config.expansion
    if uneven := [method for method, store in stores.items() if store.rows != each]:
        raise ValueError(
            f"{', '.join(uneven)}: has a budget by class, and not expansion={config.expansion} "
            "images of each original: it cannot be asked about with the others"
        )
    chosen = choose(dataset.train, count, seed)
    pictures, asked = _questions(
        dataset.train, dataset.phrases, stores, chosen, config.expansion, seed
    )
    about = {
        "dataset": dataset.name,
        "methods": methods,
        "seed": seed,
        "options": list(options),
        "stores": {method: store.folder.name for method, store in stores.items()},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": sgid.__version__,
    }
    write_study(folder / FILE, about, pictures, asked)
    return folder, _summary(asked, methods, count)


def _questions(
    images: ImageSet,
    phrases: Sequence[str],
    stores: Mapping[str, Store],
    chosen: Sequence[int],
    expansion: int,
    seed: int,
) -> tuple[dict[str, Picture], list[Question]]:
    """All questions about the chosen originals, and the images that they show."""
    repeats = range(min(expansion, SHOWN))
    pictures: dict[str, Picture] = {}

    def keep(image: Image) -> str:
        id = secrets.token_hex(8)  # not made of what it shows, so that nothing can be made of it
        pictures[id] = _picture(image)
        return id

    shown: dict[tuple[int, str], list[str]] = {}
    first = {i: keep(images[i].image) for i in chosen}
    for method, store in stores.items():
        for i, row in _rows(store, images, chosen, expansion, repeats):
            shown.setdefault((i, method), []).append(keep(row))
    checked = list(chosen[: max(1, len(chosen) // CHECKS)])
    for i in checked:  # under ids of their own: the page must not say that they are the original
        shown[i, UNCHANGED] = [keep(images[i].image) for _ in repeats]

    questions: list[Question] = []
    for kind in kinds(expansion):
        for (i, method), ids in shown.items():
            if kind is CONSISTENCY:  # of each method the same repeat
                ids = [ids[derive_seed(seed, "repeat", images.keys[i]) % len(repeats)]]
            label = phrases[images.labels[i]]
            questions.append(
                Question(
                    len(questions) + 1, kind.name, method, images.keys[i], label, (first[i], *ids)
                )
            )
    return pictures, questions


def _rows(
    store: Store, images: ImageSet, chosen: Sequence[int], expansion: int, repeats: range
) -> list[tuple[int, Image]]:
    """The index of its original and the image, of these repeats of the chosen originals."""
    from sgid.data.decode import decode

    wanted = [i * expansion + repeat for i in chosen for repeat in repeats]
    found = []
    for number, row in store.rows_at(wanted, ["key", "repeat", "image"]):
        i, repeat = divmod(number, expansion)
        assert (row["key"], row["repeat"]) == (images.keys[i], repeat), f"row {number} of {store}"
        found.append((i, decode(row["image"]["bytes"])))
    return found


def _picture(image: Image) -> Picture:
    """Lossless, without metadata, and none larger than `LARGEST`."""
    if max(image.size) > LARGEST:
        image = image.copy()
        image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", lossless=True)
    return Picture(image.width, image.height, buffer.getvalue())


def _summary(asked: Sequence[Question], methods: Sequence[str], count: int) -> list[str]:
    checks = sum(one.method == UNCHANGED for one in asked)
    names = list(dict.fromkeys(one.kind for one in asked))
    each = f"originals {count} × methods {len(methods)} × kinds {len(names)}"
    lines = [
        f"{len(asked) - checks} questions to each rater: {each} ({' and '.join(names)}); "
        f"and {checks} checks"
    ]
    if len(names) == 1:
        lines.append("diversity is not asked: with expansion=1 an original has one image only")
    return lines
