"""Where model weights lie on disk, and what to say when they do not.

Nothing is ever downloaded here: weights are a folder given by `path`, or a snapshot of a hub
repository in the local cache. What is missing is told with the command that fetches it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgid.fingerprint import fingerprint

# What must be there for each layout, as alternatives of globs relative to the folder.
LAYOUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "blip": (
        ("config.json",),
        ("model.safetensors", "model.safetensors.index.json"),
        ("preprocessor_config.json", "processor_config.json"),
        ("tokenizer.json", "vocab.txt"),
    ),
    "open_clip": (("open_clip_config.json",), ("open_clip_model.safetensors",)),
    "timm": (("model.safetensors", "open_clip_model.safetensors"),),
    "diffusers": (("model_index.json",), ("scheduler/scheduler_config.json",)),
}


class MissingWeights(FileNotFoundError):
    """Weights that are not on this machine. The message says where they may lie."""


@dataclass(frozen=True)
class Located:
    """A folder of weights. `identity` says which weights they are, on whatever machine."""

    folder: Path
    identity: dict[str, Any]


def locate(
    *,
    layout: str,
    option: str,
    id: str | None = None,
    revision: str | None = None,
    path: str | None = None,
) -> Located:
    """Find weights: the folder `path`, or the snapshot of `id` at `revision` in the hub's cache.

    `option` is the config key (e.g. `models.captioner.weights`) that the messages name.

    Raises:
        MissingWeights: when they are absent or incomplete.
        ValueError: when neither `path` nor `id` is given, or the layout is unknown.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"{option}.layout={layout}: unknown; one of {', '.join(LAYOUTS)}")
    if path is not None:
        folder = Path(path).expanduser()
        if lacking := _lacking(folder, layout):
            raise MissingWeights(
                f"{option}.path={path} lacks {', '.join(lacking)}. It must be the folder of a "
                f"{layout} model with safetensors weights; change {option}.path."
            )
        return Located(folder, {"layout": layout, "content": content_hash(folder)})
    if id is None:
        raise ValueError(f"{option}: give {option}.path=FOLDER or {option}.id=OWNER/NAME")
    folder = _snapshot(id, revision)
    lacking = _lacking(folder, layout) if folder else []
    if folder is None or lacking:
        at = f" --revision {revision}" if revision else ""
        found = f"{folder} lacks {', '.join(lacking)}" if folder else "not in the hub cache"
        raise MissingWeights(
            f"{id}{f' at {revision}' if revision else ''}: {found}.\n"
            f"  fetch it:      hf download {id}{at}{_EXCLUDE.get(layout, '')}\n"
            f"  or a folder:   {option}.path=FOLDER"
        )
    return Located(folder, {"layout": layout, "id": id, "revision": revision or folder.name})


# Pickles and other frameworks' copies of the same weights, which are never read.
_EXCLUDE = {
    "diffusers": ' --exclude "*.bin" "*.ckpt" "*.msgpack" "v1-5-*" "safety_checker/*"',
    "blip": ' --exclude "*.bin" "*.h5"',
    "open_clip": ' --exclude "*.bin" "*.pt"',
    "timm": ' --exclude "*.bin"',
}


def _snapshot(id: str, revision: str | None) -> Path | None:
    """The folder of a snapshot in the hub's cache; `revision` is a commit, branch or tag."""
    from huggingface_hub.constants import HF_HUB_CACHE

    repository = Path(HF_HUB_CACHE) / f"models--{id.replace('/', '--')}"
    reference = repository / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision
    folder = repository / "snapshots" / (commit or "main")
    return folder if folder.is_dir() else None


def _lacking(folder: Path, layout: str) -> list[str]:
    """What of the layout is not in `folder`; empty when all is there."""
    if not folder.is_dir():
        return ["the folder itself"]
    lacking = [
        " or ".join(options)
        for options in LAYOUTS[layout]
        if not any((folder / option).is_file() for option in options)
    ]
    if layout == "diffusers" and not lacking:
        lacking = _lacking_components(folder)
    return lacking


def _lacking_components(folder: Path) -> list[str]:
    """The components that `model_index.json` names and that are absent or without safetensors."""
    index = json.loads((folder / "model_index.json").read_text())
    lacking = []
    for name, value in index.items():
        present = isinstance(value, list) and value[0] is not None
        if not present or name in ("safety_checker", "scheduler"):
            continue
        part = folder / name
        if not part.is_dir():
            lacking.append(name)
        elif name in ("unet", "vae", "text_encoder") and not list(part.glob("*.safetensors")):
            lacking.append(f"{name}/*.safetensors")
    return lacking


def content_hash(folder: Path) -> str:
    """A hash of every weight, config and vocabulary file below `folder`."""
    hashes = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".safetensors", ".json", ".txt") and file.is_file():
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            hashes[file.relative_to(folder).as_posix()] = digest
    return fingerprint(hashes)
