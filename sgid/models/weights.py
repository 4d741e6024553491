"""Where model weights lie on disk, and what to say when they do not.

Nothing is ever downloaded here: weights are a folder given by `path`, or a snapshot of a hub
repository in the local cache. What is missing is told with the command that fetches it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sgid.reproducibility import fingerprint

# What must be there for each layout, as alternatives. A safetensors file may be there in shards.
LAYOUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "blip": (
        ("config.json",),
        ("model.safetensors",),
        ("preprocessor_config.json", "processor_config.json"),
        ("tokenizer.json", "vocab.txt"),
    ),
    "open_clip": (("open_clip_config.json",), ("open_clip_model.safetensors",)),
    "timm": (("model.safetensors", "open_clip_model.safetensors"),),
    "diffusers": (("model_index.json",),),  # and what that names: see `_parts`
}


_READ = {"diffusers": "diffusion_pytorch_model.safetensors", "transformers": "model.safetensors"}


_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")


_NOT_LOADED = ("safety_checker", "feature_extractor", "image_encoder", "watermarker")


class MissingWeights(FileNotFoundError):
    """Weights that are not on this machine. The message says where they may lie."""


@dataclass(frozen=True)
class Weights:
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
) -> Weights:
    """Find weights: the folder `path`, or the snapshot of `id` at `revision` in the hub's cache.

    `option` is the config key (e.g. `models.captioner.weights`) that the messages name.

    Raises:
        MissingWeights: when they are absent or incomplete.
        ValueError: when neither `path` nor `id` is given, the layout is unknown, or the model is
            made by code of its own.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"{option}.layout={layout}: unknown; one of {', '.join(LAYOUTS)}")
    if path is not None:
        folder = Path(path).expanduser()
        _refuse_code(folder, layout, option)
        if lacking := _lacking(folder, layout):
            raise MissingWeights(
                f"{option}.path={path} lacks {', '.join(lacking)}. It must be the folder of a "
                f"{layout} model with safetensors weights; change {option}.path."
            )
        return Weights(folder, {"layout": layout, "content": content_hash(folder)})
    if id is None:
        raise ValueError(f"{option}: give {option}.path=FOLDER or {option}.id=OWNER/NAME")
    folder = _snapshot(id, revision)
    if folder is not None:
        _refuse_code(folder, layout, option)
    lacking = _lacking(folder, layout) if folder else []
    if folder is None or lacking:
        at = f" --revision {revision}" if revision else ""
        at += "".join(f" --exclude '{pattern}'" for pattern in _EXCLUDE[layout])
        at += "".join(f" --include '{pattern}'" for pattern in _INCLUDE.get(layout, ()))
        found = f"{folder} lacks {', '.join(lacking)}" if folder else "not in the hub cache"
        raise MissingWeights(
            f"{id}{f' at {revision}' if revision else ''}: {found}.\n"
            f"  fetch it:      hf download {id}{at}\n"
            f"  or a folder:   {option}.path=FOLDER"
        )
    return Weights(folder, {"layout": layout, "id": id, "revision": folder.name})


# Pickles, and other copies of the same weights, which are never read.
_EXCLUDE = {
    "diffusers": ("*.bin", "*.ckpt", "*.msgpack", "*.onnx*", "*.fp16*", "*.non_ema.*", "*.xml"),
    "blip": ("*.bin", "*.h5"),
    "open_clip": ("*.bin", "*.pt"),
    "timm": ("*.bin",),
}


# All but whole models in one file, which lie beside the folders.
_INCLUDE = {"diffusers": ("model_index.json", "*/*")}


def _snapshot(id: str, revision: str | None) -> Path | None:
    """The folder of a snapshot in the hub's cache; `revision` is a commit, branch or tag."""
    from huggingface_hub.constants import HF_HUB_CACHE

    repository = Path(HF_HUB_CACHE) / f"models--{id.replace('/', '--')}"
    reference = repository / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision
    folder = repository / "snapshots" / (commit or "main")
    return folder if folder.is_dir() else None


def _refuse_code(folder: Path, layout: str, option: str) -> None:
    """Raise a `ValueError` if a model asks for code that is not of the libraries that load it."""
    never = f"which is never run; change {option}"
    config = folder / "open_clip_config.json"
    if layout in ("open_clip", "timm") and "trust_remote_code" in json.dumps(_json(config)):
        raise ValueError(f"{option}: {config} has trust_remote_code, for code of its own, {never}")
    for part, library, kind in _named(folder) if layout == "diffusers" else ():
        beside = any((folder / place / f"{library}.py").is_file() for place in (part, ""))
        if beside or (part not in _NOT_LOADED and not _is_known(library)):
            raise ValueError(
                f"{option}: {folder / 'model_index.json'} has its {part} made by {library}.{kind}, "
                f"code that is not of diffusers or transformers, {never}"
            )


def _is_known(library: str) -> bool:
    """Whether a part of a pipeline is of the libraries, or of one of diffusers' own pipelines."""
    found = find_spec("diffusers")
    assert found is not None and found.origin is not None
    own = Path(found.origin).parent / "pipelines" / library
    return library in _READ or (library.isidentifier() and own.is_dir())


def _json(file: Path) -> Any:
    """What a JSON file holds; `None` if there is none, which is told as a file that lacks."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _lacking(folder: Path, layout: str) -> list[str]:
    """What of the layout is not in `folder`; empty when all is there."""
    if not folder.is_dir():
        return ["the folder itself"]
    files = LAYOUTS[layout]
    if layout == "diffusers":
        files += tuple(_parts(folder))
    lacking = []
    for options in files:
        problems = [_problems(folder, option) for option in options]
        found = [one for one in problems if one is not None]
        if not found:
            lacking.append(" or ".join(options) + _instead(folder, options[0]))
        elif [] not in found:
            lacking += found[0]
    return lacking


def _parts(folder: Path) -> Iterator[tuple[str, ...]]:
    """The files, as alternatives, of each part that a pipeline's `model_index.json` names."""
    for part, library, kind in _named(folder):
        if part not in _NOT_LOADED:
            for options in _files(library, kind):
                yield tuple(f"{part}/{name}" for name in options)


def _named(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Each part that a pipeline's `model_index.json` names: its own name, library and class."""
    index = _json(folder / "model_index.json") or {}
    for part, named in index.items():
        match named:
            case [str(library), str(kind)] if part != "_class_name":  # that is told where it loads
                yield part, library, kind


def _files(library: str, kind: str) -> tuple[tuple[str, ...], ...]:
    """What `library` needs to load one of its classes from a folder."""
    if kind.endswith("Scheduler"):
        return (("scheduler_config.json",),)
    if "Tokenizer" in kind:
        return (_TOKENIZERS,)
    if kind.endswith(("Processor", "FeatureExtractor")):
        return (("preprocessor_config.json", "processor_config.json"),)
    return (("config.json",), (_READ[library],) if library in _READ else tuple(_READ.values()))


def _instead(folder: Path, name: str) -> str:
    """What is there in place of a file of weights, but is not read: pickles and variants."""
    file = folder / name
    if file.suffix != ".safetensors" or not file.parent.is_dir():
        return ""
    others = (".bin", ".ckpt", ".pt", ".msgpack", ".safetensors")
    found = sorted(one.name for one in file.parent.iterdir() if one.suffix in others)
    return f" (only {', '.join(found)}, which is not read)" if found else ""


def _problems(folder: Path, name: str) -> list[str] | None:
    """What is wrong with a file, or with the shards in its place; `None` if there is neither."""
    file, index = folder / name, folder / f"{name}.index.json"
    if file.is_file():
        return [] if _whole(file) else [f"{name} as a whole: it is damaged or cut off"]
    if not index.is_file():
        return None
    try:
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError):
        return [f"{name}.index.json as a whole: it is damaged"]
    parts = [(Path(name).parent / shard).as_posix() for shard in shards]
    return [part for part in parts if not _whole(folder / part)]


def _whole(file: Path) -> bool:
    """Whether a file is JSON, or as long as its safetensors header says; else whether it is there.

    What Git LFS leaves in place of a large file is neither.
    """
    try:
        if file.suffix == ".json":
            json.loads(file.read_text())
        if file.suffix != ".safetensors":
            return file.is_file()
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > size - 8:
                return False
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        return size == 8 + length + max((t["data_offsets"][1] for t in header.values()), default=0)
    except (OSError, ValueError, KeyError):
        return False


def content_hash(folder: Path) -> str:
    """A hash of every weight, config and vocabulary file below `folder`."""
    hashes = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".safetensors", ".json", ".txt", ".model") and file.is_file():
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            hashes[file.relative_to(folder).as_posix()] = digest
    return fingerprint(hashes)
