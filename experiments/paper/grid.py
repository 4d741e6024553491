"""Grids of runs: products of options, as cells, and back to as few products as can be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

Options = Mapping[str, str]
"""Options of `run.py` by name: `{"seed": "0", "aug": "[sgid]"}`."""


@dataclass(frozen=True)
class Sweep:
    """Every combination of the options' values, as `run.py -m` takes them.

    `classifier` are the options of the run whose classifier, trained on real images alone, predicts
    the labels of the generated images.
    """

    options: Mapping[str, Sequence[str]]
    classifier: Options | None = None

    def cells(self) -> list[Options]:
        """One set of options for each run, the last option varying fastest."""
        return [
            dict(zip(self.options, values, strict=True))
            for values in product(*self.options.values())
        ]


def products(
    cells: Iterable[Options], *, apart: Collection[str] = ()
) -> list[dict[str, list[str]]]:
    """The cells as few products that do not overlap; options in `apart` have one value in each.

    Products that differ in one option alone are joined, one option after the other, so that each
    can be asked for with one line.
    """
    boxes = [{key: [value] for key, value in cell.items()} for cell in cells]
    for key in dict.fromkeys(key for box in boxes for key in reversed(box)):
        if key in apart:
            continue
        joined: dict[str, dict[str, list[str]]] = {}
        for box in boxes:
            rest = str([(k, v) for k, v in box.items() if k != key] + [key in box])
            into = joined.setdefault(rest, {**box, **({key: []} if key in box else {})})
            if key in box:
                into[key] = [*into[key], *box[key]]
        boxes = list(joined.values())
    return boxes


def words(options: Options) -> list[str]:
    """Options as they are typed: `["seed=0", "aug=[sgid]"]`."""
    return [f"{key}={value}" for key, value in options.items()]


def swept(box: Mapping[str, Sequence[str]]) -> list[str]:
    """A product as Hydra's multirun takes it: `["seed=0,1,2", "aug=[sgid],[cutmix]"]`."""
    return [f"{key}={','.join(values)}" for key, values in box.items()]


def plain(typed: Sequence[str]) -> list[str]:
    """The typed words without Hydra's own options, `--config-dir` excepted."""
    return [
        word
        for word in typed
        if not word.startswith(("hydra.", "hydra/")) or word.startswith("hydra.searchpath=")
    ]
