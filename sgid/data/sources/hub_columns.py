"""Which columns of a set are the images and the labels, and what the classes are called."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from sgid.data.listing import words

if TYPE_CHECKING:
    from datasets import Dataset

KEYS = ("key", "id", "image_id", "file_name", "filename")
"""Columns that may identify a row, if their values are unique."""

log = logging.getLogger(__name__)


def image_column(part: Dataset, name: str | None) -> str:
    from datasets import Image

    images = [column for column, kind in part.features.items() if isinstance(kind, Image)]
    return _only(part, "image", name, images, "holds images")


def label_column(part: Dataset, name: str | None) -> str:
    from datasets import ClassLabel, Value

    features = part.features
    labels = [column for column, kind in features.items() if isinstance(kind, ClassLabel)]
    values = [
        column
        for column, kind in features.items()
        if isinstance(kind, Value)
        and (kind.dtype.startswith(("int", "uint")) or kind.dtype in ("string", "large_string"))
        and column not in KEYS
    ]
    if name is not None:
        return _only(part, "label", name, labels + values, "holds classes")
    return _only(part, "label", None, labels or values, "holds classes")


def _only(part: Dataset, option: str, name: str | None, fit: list[str], what: str) -> str:
    """The column `name`, or the only one of `fit`."""
    columns = ", ".join(f"{column} ({_kind(kind)})" for column, kind in part.features.items())
    if name is not None:
        if name in fit:
            return name
        raise ValueError(f"dataset.source.{option}={name} is no column that {what}: {columns}")
    if len(fit) == 1:
        return fit[0]
    problem = f"{len(fit)} columns could be meant" if fit else f"no column {what}"
    raise ValueError(f"{problem}; say which with dataset.source.{option}=. There are {columns}")


def _kind(feature: Any) -> str:
    return (
        getattr(feature, "dtype", "")
        if type(feature).__name__ == "Value"
        else type(feature).__name__
    )


def class_names_in(part: Dataset, label: str) -> dict[Any, str]:
    """What the label column holds -> the name of the class, in the order of the labels."""
    from datasets import ClassLabel

    feature = part.features[label]
    if isinstance(feature, ClassLabel):
        names = {number: words(name) for number, name in enumerate(feature.names)}
    else:
        values = sorted(value for value in part.unique(label) if value is not None)
        names = {value: words(str(value)) for value in values}
        log.warning(
            "column %s does not name its classes, so its %d values are their names: %s ...",
            label,
            len(names),
            ", ".join(list(names.values())[:5]),
        )
    if len(names) < 2:
        raise ValueError(
            f"column {label} holds one class only; dataset.source.label= names another"
        )
    if len(set(names.values())) < len(names):
        raise ValueError(f"column {label} has classes with the same name: {list(names.values())}")
    if codes := [name for name in names.values() if not re.search(r"[^\W\d_]{2}", name)]:
        log.warning(
            "%d class names are no words, such as %r: prompts can do nothing with them",
            len(codes),
            codes[0],
        )
    return names
