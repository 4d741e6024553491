"""Checkpoints: atomic writes, reading without running code, and a check for damage."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from pathlib import Path
from typing import IO, Any, final

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from sgid.runtime.files import atomic_path

log = logging.getLogger(__name__)

BROKEN = ".broken"


@final
class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoint files, written atomically and flushed to the disk.

    Lightning's own are built in memory, are not flushed (a power cut leaves empty files), and go by
    the disk of the temporary folder.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial, partial.open("wb") as stream:
            _save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load(Path(path), map_location)


def _save(checkpoint: dict[str, Any], stream: IO[bytes]) -> None:
    """Save; raises the `OSError` of a full disk, for which PyTorch raises a `RuntimeError`."""
    try:
        torch.save(checkpoint, stream)
    except RuntimeError as error:
        behind: BaseException | None = error
        while behind is not None:
            if isinstance(behind, OSError):
                raise behind from error
            behind = behind.__cause__ or behind.__context__
        raise


def load(path: Path, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint: tensors and plain values, never code.

    Raises:
        ValueError: if it holds anything else; no code in it is run.
    """
    from pickle import UnpicklingError

    try:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than weights and numbers, and is not read: it may run code. It is "
            "no checkpoint of this package; delete it"
        ) from error


def intact(path: Path) -> bool:
    """Whether a checkpoint is there and intact, by the checksums of its archive.

    `torch.load` does not compare these: a flipped bit would be a weight.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    # All that zipfile raises for a file that is gone, cut off or changed.
    except (zipfile.BadZipFile, FileNotFoundError, EOFError, ValueError, NotImplementedError):
        return False


def resume_path(folder: Path) -> Path | None:
    """Path of `folder`/last.ckpt, if training can resume from it; damaged files are renamed.

    The best checkpoint must be intact as well: its epoch does not come again.
    """
    last, best = folder / "last.ckpt", folder / "best.ckpt"
    if not last.is_file():
        return None
    damaged = [path for path in (last, best) if not intact(path)]
    for path in damaged:
        if not path.is_file():
            log.warning("%s is gone: the training starts again", path)
            continue
        aside = path.with_name(path.name + BROKEN)
        os.replace(path, aside)
        log.warning("%s is damaged and now %s: the training starts again", path, aside.name)
    return None if damaged else last


def content(checkpoint: Path) -> str:
    """16 hex digits of the SHA-256 of a checkpoint's weights: names, formats, shapes and bytes."""
    import torch

    digest = hashlib.sha256()
    for name, weight in sorted(load(checkpoint)["state_dict"].items()):
        digest.update(f"{name}\x1f{weight.dtype}\x1f{tuple(weight.shape)}\x1f".encode())
        digest.update(weight.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
