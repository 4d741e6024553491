"""Cost of generation, said before it begins: disk, and hours by what was measured here before."""

from __future__ import annotations

import json
import logging
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sgid.data.shrink import shrunk
from sgid.methods.requests import fit
from sgid.reproducibility import fingerprint
from sgid.runtime.files import write_atomic
from sgid.store.tables import encode

if TYPE_CHECKING:
    import torch

    from sgid.methods.requests import RequestPlan

log = logging.getLogger(__name__)

RATES = "rates.json"
"""The file of rates among the artifacts."""

SAMPLE = 8
"""Originals that are encoded to learn what an image takes on the disk."""

WORTH = 1e9, 360.0
"""Bytes and seconds below which nothing is said."""


@dataclass(frozen=True)
class Rate:
    """Seconds that a step of some work takes, kept in a file from run to run: a generator's for one
    image, a captioner's for one image, a classifier's for one batch.

    Args:
        file: JSON, for all work and devices.
        work: identity of what works: for images to draw, that of the generator.
        device: where it works.
    """

    file: Path
    work: object
    device: torch.device

    @property
    def name(self) -> str:
        import torch

        cuda = self.device.type == "cuda"
        where = torch.cuda.get_device_name(self.device) if cuda else platform.machine()
        return fingerprint([self.work, where, torch.get_num_threads()])

    def read(self) -> float | None:
        try:
            value = json.loads(self.file.read_text(encoding="utf-8"))[self.name]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return value if isinstance(value, float) and value > 0 else None

    def note(self, steps: float, seconds: float) -> None:
        """Keep what `steps`, counted over all images, took."""
        try:
            known = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        if steps and isinstance(known, dict):
            write_atomic(self.file, json.dumps({**known, self.name: seconds / steps}).encode())


def denoising_steps(plan: RequestPlan, steps: int) -> float:
    """The mean number of denoising steps of an image: `int(steps * strength)`."""
    if not plan.method.from_image:
        return steps
    return float(np.floor(steps * plan.likely_strengths()).mean())


def bytes_per_image(plan: RequestPlan, *, format: str, size: int | None) -> float:
    """Mean bytes of some originals at the size of generated images."""
    rows = np.linspace(0, len(plan.images) - 1, min(SAMPLE, len(plan.images))).astype(int)
    images = (plan.images[row].image for row in rows.tolist())
    drawn = (fit(one, resolution=plan.resolution, multiple=plan.multiple) for one in images)
    return float(np.mean([len(encode(shrunk(one, size), format)) for one in drawn]))


def announce(
    plan: RequestPlan,
    rows: int,
    rate: Rate,
    place: Path,
    *,
    steps: int,
    format: str,
    size: int | None,
) -> None:
    """Say what `rows` more images take, if it is much; warn if `place` has no room for them."""
    needed = rows * bytes_per_image(plan, format=format, size=size)
    each = rate.read()
    seconds = None if each is None else rows * denoising_steps(plan, steps) * each
    free = shutil.disk_usage(_existing(place)).free
    text = f"{plan.method.name}: {rows:,} images to draw, about {_bytes(needed)}"
    text += f" of {_bytes(free)} free in {place}"
    if seconds is not None:
        text += f", about {_time(seconds)} at {rows / seconds:.3g} images a second, as before here"
    if needed > free:
        log.warning(
            "%s: they do not fit. Take store.size=N (the pixels that training needs), "
            "store.format=webp or jpeg, a lower expansion, or another paths.artifacts",
            text,
        )
    elif needed >= WORTH[0] or (seconds or 0) >= WORTH[1]:
        log.info("%s", text)


def _existing(place: Path) -> Path:
    return next(folder for folder in (place, *place.resolve().parents) if folder.is_dir())


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
