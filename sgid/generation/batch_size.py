"""The batch size that suits a device and a model, found without being asked for.

On a CUDA GPU it is measured on the work itself, and written down for the next time. Elsewhere it
follows from the size of the latents: on a CPU throughput is flat over a wide range (measured from
2,048 to 16,384 positions a batch, `experiments/LOG.md`), and memory that runs out ends the process.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sgid.batching import Batches

if TYPE_CHECKING:
    import torch

AUTO = "auto"
FIRST = 4
"""What growing begins with on a GPU."""
MEND = (
    "take a smaller models.generator.resolution, models.generator.dtype=float16 (or bfloat16), or "
    "another trainer.device"
)
POSITIONS = 4096
"""Latent positions in a batch elsewhere: 64 images of 8 x 8, one of 64 x 64."""


def batches(
    size: int | str, *, device: torch.device, latent_side: int, name: str, remembered: Path | None
) -> Batches:
    """Batches of `size`, or with "auto" of what is found, or was found before, for `name`.

    `latent_side` is that of the latents (B, C, side, side); `remembered` the file to write to.
    """
    if size != AUTO:
        return Batches(int(size), mend=MEND)
    if device.type != "cuda":
        return Batches(max(1, POSITIONS // latent_side**2), mend=MEND)
    import torch

    name = f"{torch.cuda.get_device_name(device)}, {name}"
    settled = partial(_write, remembered, name)
    if (known := _read(remembered).get(name)) is not None:
        return Batches(known, settled=settled, mend=MEND)
    return Batches(FIRST, grow=True, settled=settled, mend=MEND)


def _read(path: Path | None) -> dict[str, int]:
    if path is None or not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # it is found again
        return {}


def _write(path: Path | None, name: str, size: int) -> None:
    if path is not None:
        known = json.dumps({**_read(path), name: size}, indent=2) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        unfinished.write_text(known, encoding="utf-8")
        os.replace(unfinished, path)
