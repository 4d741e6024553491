"""`stage=fetch`: the images and weights of a run that are not there, from where they are published.

No other stage asks a server for anything.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sgid.data.sources.download import MissingImages
from sgid.evaluation.lpips import ALEXNET, fetch_weights, weights_file
from sgid.models.hub import (
    MORE_SPACE,
    Unfetchable,
    as_size,
    find_repository,
    of_size,
    set_size,
)
from sgid.models.weights import MissingWeights, hub_cache
from sgid.runtime.terminal import progress

Advance = Callable[[int], object]
"""Called with the bytes of each step of a download."""


@final
@dataclass(frozen=True)
class Need:
    """Weights of a run: the section of their option, and how to look for them.

    `half` says that they are computed with in float16, `configs_alone` that the weights themselves
    are in a file of one's own.
    """

    option: str
    layout: str
    id: str | None
    revision: str | None
    look: Callable[[], Any]
    half: bool
    configs_alone: bool = False


@final
@dataclass(frozen=True)
class Item:
    """Something to fetch: bytes in all and of those that are there, and what fetches the rest.

    `spread` is the share of them that the disk must have free.
    """

    what: str
    origin: str
    size: int
    there: int
    place: Path
    fetch: Callable[[Advance], object]
    own_bar: bool = False
    spread: float = 1.0

    @property
    def left(self) -> int:
        return self.size - self.there


def fetch(
    images: Callable[[bool], Any],
    root: str | None,
    weights: list[Need],
    *,
    lpips: bool,
    console: Console,
) -> None:
    """Say what is missing, with its sizes, and fetch it; what has been fetched before is kept.

    Args:
        images: lists the images; `True` fetches them first.
        root: the folder of the images.
        lpips: whether the weights of LPIPS are needed as well.

    Raises:
        FileNotFoundError: naming all that cannot be fetched, once all else is there; or, before
            anything is fetched, the disk that is too small.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from huggingface_hub.utils import enable_progress_bars as enable

    problems = Problems()
    items = [*_images(images, root, problems), *_weights(weights, problems, console)]
    if lpips and not weights_file().is_file():
        items.append(Item("LPIPS", "AlexNet", ALEXNET, 0, weights_file().parent, fetch_weights))
    _say(items, console)
    _check_space(items)
    for item in items:
        if item.own_bar:
            _attempt(item, lambda _: None, problems)
    hubs = [item for item in items if not item.own_bar]
    shown = not are_progress_bars_disabled()
    disable_progress_bars()  # one for all files in their place
    try:
        size, there = (sum(getattr(one, key) for one in hubs) for key in ("size", "there"))
        with progress("fetch", size, "B", done=there, scaled=True) as bar:
            for item in hubs:
                _attempt(item, bar.update, problems)
    finally:
        if shown:
            enable()
    if problems.count:
        raise FileNotFoundError(str(problems))


@final
class Problems:
    """Errors of a fetch, told together: advice that several of them share is given once."""

    def __init__(self) -> None:
        self.count = 0
        self._reasons: dict[str, list[str]] = {}  # by their advice

    def add(self, error: FileNotFoundError, what: str | None = None) -> None:
        """Note an error; `what` it is about, where its message does not say so."""
        reason, advice = (
            (error.reason, error.advice) if isinstance(error, Unfetchable) else (str(error), "")
        )
        self.count += 1
        self._reasons.setdefault(advice, []).append(f"{what}: {reason}" if what else reason)

    def __str__(self) -> str:
        parts = [f"{self.count} things are" if self.count > 1 else "One thing is"]
        parts[0] += " not fetched:"
        for advice, reasons in self._reasons.items():
            parts += [*reasons, *([f"{advice}."] if advice else [])]
        return "\n\n".join(parts)


def _attempt(item: Item, advance: Advance, problems: Problems) -> None:
    try:
        item.fetch(advance)
    except FileNotFoundError as error:
        problems.add(error, item.what)


def _images(images: Callable[[bool], Any], root: str | None, problems: Problems) -> Iterator[Item]:
    try:
        images(False)
    except MissingImages as error:
        if error.size is not None:
            title, size = error.title, of_size(error.size)
            place = Path(root or "").expanduser().absolute()
        elif error.hub is not None:
            title, place = error.hub[0], hub_cache()
            try:
                size = set_size(*error.hub)
            except Unfetchable as unfetchable:
                problems.add(unfetchable)
                return
        else:
            problems.add(error)
            return
        yield Item("images", title, size, 0, place, lambda _: images(True), True, 2.0)
    except FileNotFoundError as error:
        problems.add(error)


def _weights(needs: list[Need], problems: Problems, console: Console) -> Iterator[Item]:
    found: dict[tuple[str, str, tuple], tuple[list[str], Any]] = {}
    for need in needs:
        try:
            need.look()
        except MissingWeights as error:
            if not error.fetchable or need.id is None:
                problems.add(error)
                continue
            try:
                one = find_repository(
                    need.id, need.revision, need.layout,
                    half=need.half, weights=not need.configs_alone,
                )  # fmt: skip
            except Unfetchable as unfetchable:
                problems.add(unfetchable, need.option)
                continue
            if one.id != need.id:
                console.print(
                    f"{need.id} has left the hub; the same weights are at {one.id}, which is "
                    "fetched", style="yellow", highlight=False, markup=False,
                )  # fmt: skip
            found.setdefault((one.id, one.commit, one.files), ([], one))[0].append(need.option)
    for options, one in found.values():
        origin = f"{one.id} at {one.commit[:12]}{', in float16' if one.variant else ''}"
        yield Item(", ".join(options), origin, one.size, one.there, hub_cache(), one.fetch)


def _say(items: list[Item], console: Console) -> None:
    """Print what is fetched, how much it is and how much the disks have free."""
    if not items:
        return
    table = Table(box=box.SIMPLE)
    for name, justify in (("for", "left"), ("from", "left"), ("size", "right"), ("left", "right")):
        table.add_column(name, justify=justify, overflow="fold")  # pyright: ignore[reportArgumentType]
    for one in items:
        table.add_row(one.what, escape(one.origin), as_size(one.size), as_size(one.left))
    table.add_section()
    sizes = (as_size(sum(getattr(one, key) for one in items)) for key in ("size", "left"))
    table.add_row("together", "", *sizes)
    console.print(table)
    for place in dict.fromkeys(one.place for one in items):
        free = as_size(_free(place))
        console.print(f"{place}: {free} free", highlight=False, markup=False)


def _check_space(items: list[Item]) -> None:
    """Compare what is left to fetch with the free bytes of each file system.

    Raises:
        FileNotFoundError: where they do not suffice.
    """
    needed: dict[int, float] = {}
    places: dict[int, Path] = {}
    for one in items:
        there = _existing(one.place)
        device = there.stat().st_dev
        needed[device] = needed.get(device, 0) + one.left * one.spread
        places.setdefault(device, one.place)
    for device, count in needed.items():
        if count > (free := _free(places[device])):
            raise FileNotFoundError(
                f"{as_size(count)} are needed in {places[device]} (sets of images are there twice "
                f"while they are unpacked), and {as_size(free)} are free: {MORE_SPACE}, for images "
                "with dataset.root=DIR"
            )


def _free(place: Path) -> int:
    return shutil.disk_usage(_existing(place)).free


def _existing(place: Path) -> Path:
    """A folder, or the one above it that is there."""
    return next(one for one in (place, *place.parents) if one.exists())
