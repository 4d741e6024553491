"""A folder of images, one sub-folder per class, with or without splits.

Links are followed because sets are often put together from them, but never to a folder that holds
the place where the link was met: so there is no loop, and no way up and out by `..`.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, final

from sgid.data.captions import read_captions
from sgid.data.classes import name_classes
from sgid.data.decode import image_extensions, is_image
from sgid.data.image_set import Texts
from sgid.data.listing import FileReader, Listing, Splits, from_file, printable, stamp

LAYOUT = """Expected is one folder per class, either all in one place or in train/, val/, test/:
  ROOT/<class>/*.jpg
  ROOT/train/<class>/*.jpg  ROOT/val/<class>/*.jpg  ROOT/test/<class>/*.jpg
Say where with dataset.root=ROOT."""

# The words that folders of splits go by, in several languages; and what is added to them.
_WORDS = {
    "train": "train training trn trainval entrenamiento treino treinamento entrainement"
    " addestramento 训练 训练集 学習 学習用",
    "validation": "val valid validation validate validating dev validacion validacao validierung"
    " 验证 验证集 検証 検証用",
    "test": "test tests testing tst eval evaluation holdout prueba teste 测试 测试集 テスト",
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words.split()}
_ADDED = {
    *("set", "sets", "data", "dataset", "image", "images", "img", "imgs", "picture", "pictures"),
    *("photo", "photos", "pics", "sample", "samples", "split", "folder", "dir", "files", "the"),
}
_JOINED = re.compile(rf"({'|'.join(sorted(_SPLIT_OF, key=len, reverse=True))})({'|'.join(_ADDED)})")

# Folders that systems and tools make, in lower case, at any depth.
_OF_SYSTEMS = {
    "@eadir": "thumbnails of a Synology",
    "@__thumb": "thumbnails of a QNAP",
    "@recycle": "a recycle bin",
    "#recycle": "a recycle bin",
    "$recycle.bin": "a recycle bin",
    "recycler": "a recycle bin",
    "trash": "a recycle bin",
    "#snapshot": "snapshots of a server",
    "__macosx": "what a Mac puts into archives",
    "network trash folder": "a recycle bin",
    "temporary items": "a Mac's temporary files",
    "system volume information": "Windows' own files",
    "lost+found": "what a repair of the disk found",
    "__pycache__": "Python's own files",
    "thumbnails": "thumbnails",
    "thumbs": "thumbnails",
}
_IMAGES = {"image", "images", "img", "imgs", "jpegimages", "photos", "pictures", "original", "raw"}
_MASKS = {
    *("mask", "masks", "segmentation", "segmentations", "segmentationclass", "seg", "annotation"),
    *("annotations", "label", "labels", "groundtruth", "gt", "trimaps", "segmentationobject"),
}
_MASK_OF = re.compile(
    r"(?P<stem>.+?)[-_. ]+(masks?|seg|segmentation|gt|ground_?truth|annotations?)([-_. ]?\d+)?$",
    re.I,
)
_THUMBNAIL_OF = re.compile(r"(?P<stem>.+?)[-_. ]+(thumb|thumbs|thumbnail|tn)$", re.I)

# Files that lie beside images and are none, so that nothing is missed where they are left out.
_BESIDE = {
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".html", ".htm", ".yaml", ".yml"),
    *(".py", ".ipynb", ".sh", ".log", ".ini", ".db", ".url", ".rst", ".doc", ".docx", ".xls"),
    *(".xlsx", ".mat", ".npy", ".npz", ".pkl", ".pt", ".pth", ".lnk", ".sha256", ".md5", ".rtf"),
    *(".aae", ".xmp", ".thm", ".cfg", ".toml", ".bib", ".parquet", ".lock", ".cache"),
}
_ADVICE = {
    "heic": "pip install 'sgid[heic]' lets them be read",
    "raw": "raw photographs: convert them to TIFF or JPEG",
    "video": "videos: take frames from them",
    "medical": "convert them to PNG or TIFF of 16 bits",
    "vector": "drawings: convert them to PNG",
    "archive": "archives: unpack them",
    "cloud": "not downloaded from the cloud: download them first",
    "part": "downloads that were broken off",
}
_KINDS = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "heic"),
    **dict.fromkeys(
        (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"), "raw"
    ),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".3gp", ".wmv"), "video"),
    **dict.fromkeys(
        (".dcm", ".dicom", ".nii", ".mha", ".mhd", ".nrrd", ".svs", ".ndpi"), "medical"
    ),
    **dict.fromkeys((".svg", ".pdf", ".eps", ".ai", ".wmf"), "vector"),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".rar", ".7z", ".bz2", ".xz"), "archive"),
    ".icloud": "cloud",
    **dict.fromkeys((".crdownload", ".part", ".download", ".tmp"), "part"),
}


class _Image(NamedTuple):
    key: str
    path: Path
    class_name: str


@final
@dataclass
class LeftOut:
    """Count of the files that are passed over, by reason and by class folder."""

    reasons: Counter[str] = field(default_factory=Counter)
    in_class: dict[str, Counter[str]] = field(default_factory=dict)
    total: int = 0

    def add(self, reason: str, count: int = 1, class_name: str = "") -> None:
        """Count files; those without a `reason` are nothing that anybody would miss."""
        self.total += count
        if reason and count:
            self.reasons[reason] += count
            self.in_class.setdefault(class_name, Counter())[reason] += count

    def remarks(self) -> list[str]:
        return [f"left out: {count:,} {reason}" for reason, count in self.reasons.most_common()]


def folder(
    root: str | None,
    *,
    classes: str | None = None,
    train: str | None = None,
    validation: str | bool | None = None,
    test: str | bool | None = None,
    depth: int | None = None,
    captions: str | None = None,
) -> Splits:
    """List `root/<class>/**/<image>`, or that below the folders of splits.

    `train`, `validation` and `test` name the folders of the splits in `root`, which are otherwise
    found by the usual names (`train`, `Training`, `test_set`); `False` leaves one out. Classes are
    the folders at `depth` below them: 1, or 2 where the first say something else.

    With `captions`, those of training images that people wrote are read (`sgid.data.captions`).

    Classes are named by the table `classes`, or else for their folders, without numbers that stand
    before all of them: see `sgid.data.classes`. Keys are paths relative to `root`. Both are NFC,
    hence the same on every file system. What is hidden, a system's own, a mask or a thumbnail of
    the image beside it, lies in no class folder or is no image is counted and passed over.

    Raises:
        FileNotFoundError: if `root` is not given or not there.
        ValueError: if it does not hold images of two or more classes in one of the layouts.
    """
    if not root:
        raise FileNotFoundError(f"dataset.root is not given.\n{LAYOUT}")
    top = Path(root).expanduser().absolute()
    if not top.is_dir():
        what = "is not a folder" if top.exists() else "does not exist"
        raise FileNotFoundError(f"dataset.root={root} {what}.\n{LAYOUT}")
    try:
        named = {"train": train, "validation": validation, "test": test}
        return _list(top, named, depth, classes, captions=captions is not None)
    except PermissionError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error


def _list(
    top: Path,
    named: Mapping[str, str | bool | None],
    depth: int | None,
    classes: str | None,
    *,
    captions: bool,
) -> Splits:
    remarks: list[str] = []
    left_out = LeftOut()
    places = _places(top, named)
    inside = depth is None and places == {"train": top} and _splits_inside(top)
    if depth is None and not inside:
        for place in places.values():
            remarks += _check_level(place, top, places)
    found: dict[str, list[_Image]] = {}
    for split, place in places.items():
        found[split] = _images(place, top, depth or 1, left_out)
    if inside:
        found, places = _divide_by_folder(found["train"], top)
    for name in folders_in(top):
        if (
            len(places) > 1
            and not inside
            and not any(place == name or place.is_relative_to(name) for place in places.values())
        ):
            left_out.add(f"files in {printable(name.name)}/, which is no split", count_images(name))
    raw = sorted({image.class_name for image in found["train"]})
    _refuse_non_classes(raw, found["train"], top)
    if len(raw) < 2:
        what = f"images of one class only, {printable(raw[0])!r}" if raw else "no images"
        hints = [*_elsewhere(top, places), *left_out.remarks(), *_labels_beside(top)]
        advice = "".join(f"{hint}\n" for hint in hints)
        raise ValueError(f"{places['train']} holds {what} in class folders.\n{advice}{LAYOUT}")
    for split, images in found.items():
        if not images:
            raise ValueError(
                f"{places[split]} holds no images in class folders, so they have no labels: sort "
                f"them into class folders, or leave them out with dataset.source.{split}=false.\n"
                f"{LAYOUT}"
            )
        found[split], alike = _match(images, raw, places[split], places["train"])
        remarks += alike
    naming = name_classes(raw, classes, where=str(places["train"]))
    words = sorted({text.words for text in naming.texts.values()})
    label = {name: words.index(text.words) for name, text in naming.texts.items()}
    text_of = naming.by_words()
    listings = {
        split: _listing(places[split], sorted(images), tuple(words), label)
        for split, images in found.items()
    }
    bare = [name for name in left_out.in_class if name and name not in raw]
    for name in bare:
        why = ", ".join(f"{count:,} {why}" for why, count in left_out.in_class[name].items())
        remarks.append(f"no class, for want of images: {printable(name)} ({why})")
    shown = {
        split: f"{from_file(place.relative_to(top).as_posix())}/"
        for split, place in places.items()
        if place != top and not inside and place.name != split
    }
    return Splits(
        train=listings["train"],
        validation=listings.get("validation"),
        test=listings.get("test"),
        ignored=left_out.total,
        remarks=(*remarks, *left_out.remarks(), *naming.remarks),
        texts=tuple(text_of[one] for one in words),
        captions=_captions(found, top) if captions else {},
        places=shown,
    )


def _captions(found: Mapping[str, list[_Image]], top: Path) -> dict[str, tuple[str, ...]]:
    """Captions of the images that a run may be trained on: validation may be joined to them."""
    images = {
        image.key: image.path for split in ("train", "validation") for image in found.get(split, [])
    }
    return read_captions(images, top)


# -- splits ---------------------------------------------------------------------------------------


def split_of(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The split that a folder's name says, and what else it says: `seg_train` -> train, (seg,)."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    split, rest = None, []
    for token in re.findall(r"[^\W\d_]+|\d+", spaced):
        text = _unaccented(token.lower())
        joined = _JOINED.fullmatch(text)
        word = joined[1] if joined else text
        if split is None and word in _SPLIT_OF:
            split = _SPLIT_OF[word]
        elif text not in _ADDED:
            rest.append(text)
    return split, tuple(rest)


def _unaccented(text: str) -> str:
    if not text.isascii() and unicodedata.name(text[0], "").startswith("LATIN"):
        text = "".join(
            c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)
        )
    return text


def _places(top: Path, named: Mapping[str, str | bool | None]) -> dict[str, Path]:
    """The folder of each split.

    `train` may be a class as well, beside `bus` and `car`: it is a split where another split
    stands beside it, or nothing else does. Folders of splits say the same but for the split:
    `seg_train`, `seg_test`.
    """
    given = {split: top / name for split, name in named.items() if isinstance(name, str)}
    for split, place in given.items():
        if not place.is_dir():
            there = ", ".join(printable(one.name) for one in folders_in(top)) or "none"
            raise ValueError(
                f"dataset.source.{split}={named[split]}: {top} has no such folder; it has {there}"
            )
    folders = folders_in(top)
    groups: dict[tuple[str, ...], dict[str, Path]] = {}
    for path in folders:
        split, rest = split_of(path.name)
        if split is None or path in given.values():
            continue
        group = groups.setdefault(rest, {})
        if split in group and named[split] is None:
            raise ValueError(
                f"{group[split]} and {path} are the same split: move one away, or name the right "
                f"one: dataset.source.{split}={printable(path.name)}"
            )
        group[split] = path
    best = max(groups.values(), key=lambda one: ("train" in one, len(one)), default={})
    places = {split: path for split, path in best.items() if named[split] is None} | given
    order = [split for split in ("train", "validation", "test") if split in places]
    if "train" in given:
        return {split: places[split] for split in order}
    if given and "train" not in places:
        raise ValueError(f"say which folder of {top} to train on: dataset.source.train=NAME")
    if "train" in places and (len(best) > 1 or len(folders) == 1 or given):
        return {split: places[split] for split in order}
    return {"train": top}


def _splits_inside(top: Path) -> bool:
    """Whether each class folder has its own folders of splits: `cat/train`, `cat/test`."""
    folders = [_names(one) for one in folders_in(top)]
    folders = [names for names in folders if names]
    if len(folders) < 2 or any(names != folders[0] for names in folders):
        return False
    splits = [split_of(name)[0] for name in folders[0]]
    if "train" not in splits or None in splits or len(splits) < 2:
        return False
    return all(
        _holds_images(split) and not _names(split)
        for one in folders_in(top)
        for split in folders_in(one)
    )


def _divide_by_folder(
    images: Sequence[_Image], top: Path
) -> tuple[dict[str, list[_Image]], dict[str, Path]]:
    found: dict[str, list[_Image]] = {}
    for image in images:
        split, _ = split_of(image.path.relative_to(top).parts[1])
        found.setdefault(split or "train", []).append(image)
    found = {split: found[split] for split in ("train", "validation", "test") if split in found}
    return found, dict.fromkeys(found, top)


def _check_level(place: Path, top: Path, places: Mapping[str, Path]) -> list[str]:
    """Remarks where classes seem to be one level deeper than the folders of `place`.

    Raises:
        ValueError: where they certainly are, with the option that is right.
    """
    if _holds_images(place):
        return []
    below = {one: _names(one) for one in folders_in(place)}
    below = {one: names for one, names in below.items() if names or _holds_images(one)}
    split = next((name for name, path in places.items() if path == place), "train")
    if len(below) == 1:
        ((only, names),) = below.items()
        if place != top and len(names) > 1 and not _holds_images(only):
            name = from_file(only.relative_to(top).as_posix())
            raise ValueError(
                f"{place} holds the one folder {printable(only.name)}/, and the classes are in "
                f"that: {_option(f'dataset.source.{split}', name)}"
                + "".join(
                    f" {_option(f'dataset.source.{other}', inner)}"
                    for other, path in places.items()
                    if other != split and (inner := _only_inner(path, top))
                )
            )
        return []
    if len(below) < 2 or any(_holds_images(one) for one in below):
        return []
    shared = set.intersection(*(set(names) for names in below.values()))
    union = set.union(*(set(names) for names in below.values()))
    plain = {re.sub(r"[\W_]", "", name.lower()) for name in union}
    if plain <= _IMAGES | _MASKS or len(union) < 2:
        return []
    if shared and len(shared) >= 0.5 * len(union) and len(shared) > 1:
        one, other, *_ = below
        two = [from_file(path.relative_to(top).as_posix()) for path in (one, other)]
        few = ", ".join(printable(name) for name in sorted(shared)[:5])
        raise ValueError(
            f"the folders of {place} "
            f"({', '.join(printable(path.name) for path in list(below)[:5])}) hold no images "
            f"but the same folders ({few}), which look like the classes. Say what they are:\n"
            f"  several sets: {_option('dataset.root', str(one))}\n"
            f"  splits:       {_option('dataset.source.train', two[0])} "
            f"{_option('dataset.source.test', two[1])}\n"
            "  one set, whose classes are the folders below: dataset.source.depth=2\n"
            "  the classes themselves: dataset.source.depth=1"
        )
    if all(len(names) > 1 for names in below.values()):
        few = ", ".join(printable(name) for name in sorted(union)[:5])
        return [
            f"the class folders hold no images but folders ({few} ...), and are the classes; "
            "dataset.source.depth=2 makes those below the classes, depth=1 says that this is meant"
        ]
    return []


def _only_inner(place: Path, top: Path) -> str | None:
    inner = folders_in(place)
    return from_file(inner[0].relative_to(top).as_posix()) if len(inner) == 1 else None


def _elsewhere(top: Path, places: Mapping[str, Path]) -> list[str]:
    """The folder below `top` that `dataset.root` should be, if there is one."""
    fits: list[Path] = []
    level = [top]
    for _ in range(3):
        level = [one for path in level for one in folders_in(path)]
        for path in level:
            inner = [one for one in folders_in(path) if _holds_images_below(one)]
            if len(inner) > 1 and not _holds_images(path):
                fits.append(path)
        if fits:
            places_ = {path.parent for path in fits}
            fits = list(places_) if all(split_of(one.name)[0] for one in fits) else fits
            return [f"It may be {_option('dataset.root', str(path))}" for path in fits[:3]]
    return []


def _labels_beside(top: Path) -> list[str]:
    """Advice on a list of labels that lies beside images, and on names that an archive spoiled."""
    hints = []
    files = [path for path in top.iterdir() if path.is_file()]
    if spoiled := [path.name for path in files if "\\" in path.name and _is_image(path)]:
        hints.append(
            f"File names such as {printable(spoiled[0])} come from an archive that Windows made: "
            "unpack it again with a program that makes folders of them (7z, Python's zipfile)."
        )
    lists = [path.name for path in files if path.suffix.lower() in (".csv", ".tsv", ".xlsx")]
    if lists:
        hints.append(
            f"{printable(lists[0])} may hold the labels. As metadata.csv beside the images, with "
            "the columns file_name and label, it is read by dataset=hub dataset.source.id=DIR."
        )
    return hints


def _option(name: str, value: str) -> str:
    return printable(shlex.quote(f"{name}={value}"))


# -- classes --------------------------------------------------------------------------------------


def _images(place: Path, top: Path, depth: int, left_out: LeftOut) -> list[_Image]:
    """The images in the class folders of `place`."""
    images: list[_Image] = []
    for path in place.iterdir():
        if path.is_file():
            reason = _no_image(path)
            beside = reason is None and not path.name.startswith(".")
            left_out.add("images beside the class folders" if beside else reason or "")
    systems = [path for path in place.iterdir() if path.is_dir() and system_folder(path.name)]
    for path in systems:
        left_out.add(f"files in {path.name} ({system_folder(path.name)})", _count_files(path))
    folders = folders_in(place)
    for _ in range(depth - 1):
        folders = [inner for one in folders for inner in folders_in(one)]
    folder_of: dict[str, Path] = {}
    for class_folder in folders:
        name = from_file(class_folder.name)
        files = [path for path in files_below(class_folder, left_out, name)]
        files = _without_masks(files, class_folder, left_out, name)
        before = len(images)
        seen = 0
        for path in files:
            seen += 1
            reason = _no_image(path)
            if reason is not None:
                left_out.add(reason, class_name=name)
            else:
                key = from_file(path.relative_to(top).as_posix())
                images.append(_Image(key, path, name))
        if len(images) == before and name not in left_out.in_class:
            why = "files that are no images" if seen else "files: the folder is empty"
            left_out.in_class[name] = Counter({why: seen})
        other = folder_of.setdefault(name, class_folder)
        if len(images) > before and other != class_folder and depth == 1:
            raise ValueError(
                f"{other} and {class_folder} are both read as the class {printable(name)!r}, since "
                "they differ by the form of an accent alone: rename or merge them"
            )
    return images


def _no_image(path: Path) -> str | None:
    """Reason to leave a file out: empty for what nobody would miss; `None` for an image."""
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return f"{suffix} files ({_ADVICE['cloud']})" if suffix == ".icloud" else ""
    if suffix in image_extensions():
        return None
    if path.name.lower() in ("thumbs.db", "desktop.ini", "readme", "license", "icon\r"):
        return ""
    if suffix in _BESIDE:
        return ""
    if kind := _KINDS.get(suffix):
        return f"{suffix} files ({_ADVICE[kind]})"
    if not suffix or not re.fullmatch(r"\.[a-z][a-z0-9]{1,9}", suffix):  # as 1234.5678
        return None if _begins_as_image(path) else "files without an extension that are no images"
    if _begins_as_image(path):
        return f"{printable(suffix)} files (images by their bytes: rename them)"
    return f"{printable(suffix)} files (no known image format)"


def _begins_as_image(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return is_image(stream.read(64))
    except OSError:
        return False


def _without_masks(
    files: Sequence[Path], class_folder: Path, left_out: LeftOut, name: str
) -> list[Path]:
    """The files but masks and thumbnails of images that lie beside them, or in folders beside."""
    stems = {(path.parent, path.stem.lower()) for path in files}
    all_stems = Counter(path.stem.lower() for path in files)
    kept = []
    for path in files:
        match = _MASK_OF.fullmatch(path.stem)
        small = _THUMBNAIL_OF.fullmatch(path.stem)
        folders = {
            re.sub(r"[\W_]", "", part.lower()) for part in path.relative_to(class_folder).parts[:-1]
        }
        if match and (path.parent, match["stem"].lower()) in stems:
            left_out.add("masks of the images beside them", class_name=name)
        elif small and (path.parent, small["stem"].lower()) in stems:
            left_out.add("thumbnails of the images beside them", class_name=name)
        elif folders & _MASKS and all_stems[path.stem.lower()] > 1:
            left_out.add("masks of the images in the folder beside theirs", class_name=name)
        else:
            kept.append(path)
    return kept


def _refuse_non_classes(names: Sequence[str], images: Sequence[_Image], top: Path) -> None:
    plain = {name: re.sub(r"[\W_]", "", name.lower()) for name in names}
    masks = [name for name, text in plain.items() if text in _MASKS]
    originals = [name for name, text in plain.items() if text in _IMAGES]
    if masks and (originals or len(names) == 2) and len(masks) + len(originals) == len(names):
        raise ValueError(
            f"{top} holds the folders {', '.join(map(printable, names))}, which are images and "
            "their masks, not classes: this program needs a folder per class.\n"
            f"{LAYOUT}"
        )


def _match(
    images: Sequence[_Image], names: Sequence[str], place: Path, train: Path
) -> tuple[list[_Image], list[str]]:
    """The images of a split with the class names of train, where these differ by case alone."""
    alike = {_same(name): name for name in names}
    unknown = sorted({image.class_name for image in images} - set(names))
    renamed = {name: alike[_same(name)] for name in unknown if _same(name) in alike}
    if others := [printable(name) for name in unknown if name not in renamed]:
        few = f"{', '.join(others[:5])}{' ...' if len(others) > 5 else ''}"
        raise ValueError(f"{place} has classes that {train} has not: {few}")
    images = [
        one._replace(class_name=renamed.get(one.class_name, one.class_name)) for one in images
    ]
    pairs = ", ".join(f"{printable(a)} as {printable(b)}" for a, b in list(renamed.items())[:5])
    return images, [
        f"classes of {place.name}/ are read as those of train: {pairs}"
    ] if pairs else []


def _same(name: str) -> str:
    return " ".join(re.sub(r"[_\s]+", " ", unicodedata.normalize("NFKC", name)).split()).casefold()


def _listing(
    place: Path, images: list[_Image], class_names: tuple[str, ...], label: Mapping[str, int]
) -> Listing:
    return Listing(
        origin=str(place),
        keys=Texts(image.key for image in images),
        labels=tuple(label[image.class_name] for image in images),
        stamps=Texts(stamp(image.path) for image in images),
        class_names=class_names,
        read=FileReader(Texts(str(image.path) for image in images)),
    )


UNLABELLED = ("unlabelled",)


def unsplit(top: Path, class_names: Sequence[str], *, option: str) -> tuple[Listing, bool]:
    """List `top/<class>/**/<image>`, or `top/<image>`; and say whether there are classes.

    A folder is named as a class of `class_names`, or as one is by letters and digits alone, so that
    `t_shirt_top` is `T-shirt/top`. Files that are hidden or have no image's extension are passed
    over. `option` is the one that the messages name.

    Raises:
        ValueError: if there are no images, images beside class folders, an unknown class, or a
            folder whose name may stand for several classes.
    """
    beside = [path for path in sorted(top.iterdir()) if path.is_file() and _is_image(path)]
    below = [(folder, list(_image_files(folder))) for folder in folders_in(top)]
    below = [(folder, images) for folder, images in below if images]
    if beside and below:
        raise ValueError(
            f"{option}={top} holds images ({beside[0].name} ...) beside folders of images "
            f"({below[0][0].name} ...): sort all of them into class folders, or none"
        )
    if not beside and not below:
        raise ValueError(f"{option}={top} holds no images")
    if beside:
        return _unsplit_listing(top, [(path, 0) for path in beside], UNLABELLED), False
    alike: dict[str, list[int]] = {}
    for number, name in enumerate(class_names):
        alike.setdefault(_plain(name), []).append(number)
    exact = {name: [number] for number, name in enumerate(class_names)}
    names = {folder: printable(from_file(folder.name)) for folder, _ in below}
    meant = {name: exact.get(name) or alike.get(_plain(name), []) for name in names.values()}
    for name, numbers in meant.items():
        if len(numbers) > 1:
            raise ValueError(
                f"{option}={top}: the folder {name} may be any of the classes "
                f"{', '.join(class_names[number] for number in numbers)}: name it as one of them"
            )
    if unknown := [name for name, numbers in meant.items() if not numbers]:
        raise ValueError(
            f"{option}={top} has folders that are no classes of the dataset: "
            f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}; its classes are "
            f"{', '.join(class_names[:10])}{' ...' if len(class_names) > 10 else ''}"
        )
    found = [(path, meant[names[folder]][0]) for folder, images in below for path in images]
    return _unsplit_listing(top, found, tuple(class_names)), True


def _unsplit_listing(
    top: Path, found: Sequence[tuple[Path, int]], names: tuple[str, ...]
) -> Listing:
    return Listing(
        origin=str(top.absolute()),
        keys=Texts(from_file(path.relative_to(top).as_posix()) for path, _ in found),
        labels=tuple(label for _, label in found),
        stamps=Texts(stamp(path) for path, _ in found),
        class_names=names,
        read=FileReader(Texts(str(path.absolute()) for path, _ in found)),
    )


def _image_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(files_below(folder)) if _is_image(path))


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in image_extensions()


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()


def system_folder(name: str) -> str | None:
    """Description of a folder of this name, where a system or a tool makes it."""
    return _OF_SYSTEMS.get(name.lower())


def folders_in(top: Path) -> list[Path]:
    """The folders in `top` that are neither hidden nor a system's own, by name."""
    return sorted(path for path in top.iterdir() if _is_folder(path, top))


def files_below(top: Path, left_out: LeftOut | None = None, name: str = "") -> Iterator[Path]:
    """Every file below `top` at any depth; folders that are hidden or a system's are not entered,
    and what is in these is counted in `left_out`.

    Each real folder is entered once, by its own path rather than by a link where it has one below
    `top`. A link to nothing counts as a file, so that it is missed where it is read.
    """
    entered: set[Path] = set()
    folders, links = [top], []
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        real = folder.resolve()
        if real in entered:
            continue
        entered.add(real)
        for path in sorted(folder.iterdir()):
            if _is_folder(path, folder, top):
                (links if path.is_symlink() else folders).append(path)
            elif path.is_file() or (path.is_symlink() and not path.exists()):
                yield path
            elif left_out is not None and (what := system_folder(path.name)):
                left_out.add(f"files in {path.name} ({what})", _count_files(path), name)


def _is_folder(path: Path, *places: Path) -> bool:
    if path.name.startswith(".") or system_folder(path.name) or not path.is_dir():
        return False
    if not path.is_symlink():
        return True
    target = path.resolve()
    return not any(place.resolve().is_relative_to(target) for place in places)


def _names(place: Path) -> tuple[str, ...]:
    """The names of the folders in `place` that hold images."""
    return tuple(sorted(one.name for one in folders_in(place) if _holds_images_below(one)))


def _holds_images(place: Path) -> bool:
    """Whether images lie in the folder itself."""
    return any(path.is_file() and _is_image(path) for path in place.iterdir())


def _holds_images_below(place: Path) -> bool:
    return any(_is_image(path) for path in files_below(place))


def _count_files(place: Path) -> int:
    return sum(path.is_file() for path in place.rglob("*")) if place.is_dir() else 0


def count_images(place: Path) -> int:
    """The images below a folder, by their extensions."""
    return sum(map(_is_image, files_below(place)))
