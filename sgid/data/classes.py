"""Class names: the words of a prompt, from the names of folders or labels, or from a table."""

from __future__ import annotations

import csv
import difflib
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import yaml

from sgid.data.listing import ClassText, printable

OPTION = "dataset.classes=FILE"
HOW = f"{OPTION} says them: YAML or CSV, each name with its words"
_COLUMNS = ("class", "words", "superclass", "description")


@final
@dataclass(frozen=True)
class Naming:
    """The text of each name, in the order of the names, and what is to be remarked of them."""

    texts: Mapping[str, ClassText]
    remarks: tuple[str, ...]

    def by_words(self) -> dict[str, ClassText]:
        """The text of each class: names with the same words are one, and each may add to it."""
        merged: dict[str, ClassText] = {}
        for text in self.texts.values():
            known = merged.setdefault(text.words, text)
            merged[text.words] = ClassText(
                text.words,
                known.superclass or text.superclass,
                known.description or text.description,
            )
        return merged


def name_classes(names: Sequence[str], table: str | Path | None = None, *, where: str) -> Naming:
    """Give each of the `names` the words that prompts say.

    Words of `table` come first. Of the other names, numbers and WordNet ids that stand before all
    of them are taken off, and names that are nothing but a WordNet id are looked up; `_` is a
    space. Classes that the table gives the same words are one.

    Raises:
        ValueError: if the table cannot be read or names what is no class, or if two names give the
            same words or differ by case alone.
    """
    given = read_classes(table) if table else {}
    plain = {unicodedata.normalize("NFC", name): name for name in names}
    texts: dict[str, ClassText] = {}
    for name, text in given.items():
        key = plain.get(unicodedata.normalize("NFC", name))
        if key is None:
            near = difflib.get_close_matches(name, plain, 1)
            hint = f"; {near[0]!r} is one" if near else f"; they are {_few(list(plain))}"
            raise ValueError(f"dataset.classes={table}: {name!r} is no class of {where}{hint}")
        texts[key] = text
    rest = [name for name in names if name not in texts]
    bare, remarks = _bare(rest)
    _refuse_twins(bare, where)
    texts |= {name: ClassText(words) for name, words in bare.items()}
    words = [text.words for text in texts.values()]
    if taken := sorted({text.words for text in given.values()} & set(bare.values())):
        raise ValueError(f"dataset.classes={table}: {taken[0]!r} is the name of another class too")
    if len(set(words)) < 2 and len(words) > 1:
        raise ValueError(f"dataset.classes={table} gives all classes the same words")
    if table and rest:
        remarks.append(f"{table} has no words for {_few(rest)}")
    return Naming({name: texts[name] for name in names}, (*remarks, *_doubts(bare)))


def read_classes(file: str | Path) -> dict[str, ClassText]:
    """The table of a YAML file (`name: words`, or `name: {words: ..., superclass: ...}`) or a CSV
    file with the columns class, words and, where wanted, superclass and description.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no such table.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"dataset.classes={file} is not a file; {HOW}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _csv(text) if path.suffix.lower() in (".csv", ".tsv") else _yaml(text)
        return {name: _class_text(name, row) for name, row in rows}
    except (ValueError, yaml.YAMLError, csv.Error) as error:
        raise ValueError(f"dataset.classes={file} is no table of classes: {error}") from error


def _csv(text: str) -> list[tuple[str, dict[str, Any]]]:
    head = next(iter(text.splitlines()), "")
    delimiter = max(",;\t", key=head.count)
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    columns = list(rows[0]) if rows else []
    first = next((name for name in ("class", "folder", "name", "label") if name in columns), None)
    if first is None or "words" not in columns:
        raise ValueError(f"needed are the columns {', '.join(_COLUMNS[:2])}, not {head!r}")
    return [(row.pop(first), row) for row in rows]


def _yaml(text: str) -> list[tuple[str, Any]]:
    read = yaml.load(text, Loader=yaml.BaseLoader)  # every name as it stands: 007, no, 1e3
    if not isinstance(read, dict):
        raise ValueError("needed is a line `name: words` for each class")
    return list(read.items())


def _class_text(name: str, row: Any) -> ClassText:
    row = {"words": row} if isinstance(row, str) else row
    if not isinstance(row, dict):
        raise ValueError(f"{name!r} needs words, not {row!r}")
    if unknown := sorted(map(str, set(row) - set(_COLUMNS[1:]))):
        raise ValueError(f"{name!r} has {', '.join(unknown)}; known are {', '.join(_COLUMNS[1:])}")
    values = {key: printable(" ".join(str(value).split())) for key, value in row.items() if value}
    if not values.get("words"):
        raise ValueError(f"{name!r} has no words")
    return ClassText(**values)


_WORDNET = re.compile(r"n\d{8}")
_WORDNET_FIRST = re.compile(r"n\d{8}[-_. ]+(?=[^\W\d_])")
_NUMBER_FIRST = re.compile(r"(?:class|cls|label)?[-_ ]?(\d+)(\.\s*|[-_]+)(?=[^\W\d_])", re.I)
_DOT_FIRST = re.compile(r"\d+\.(?=\D)")


def _bare(names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Names without their codes; and remarks on names that are left as they are."""
    remarks: list[str] = []
    bare = {name: _WORDNET_FIRST.sub("", name) for name in names}
    looked_up = _wordnet([name for name in names if _WORDNET.fullmatch(name)])
    bare |= looked_up
    numbered = {name: number for name in names if (number := _NUMBER_FIRST.match(name))}
    every = len(numbered) == len(names) and len(names) > 1
    if every and all(map(_DOT_FIRST.match, names)):
        bare |= {name: _DOT_FIRST.sub("", name) for name in names}
    elif _is_enumeration(list(numbered.values()), len(names)):
        bare |= {name: name[number.end() :] for name, number in numbered.items()}
        if not every:
            others = [name for name in names if name not in numbered]
            remarks.append(f"no number stands before {_few(others)}, as before the other classes")
    return {
        name: " ".join(text.replace("_", " ").split()) or "_" for name, text in bare.items()
    }, remarks


def _is_enumeration(matches: Sequence[re.Match[str]], total: int) -> bool:
    """Whether numbers before most of `total` names count them: 001, 002 ...; not `4_wheeler`."""
    numbers = [match[1] for match in matches]
    values = sorted(map(int, numbers))
    if len(values) < max(2, total * 0.6) or len(set(values)) < len(values):
        return False
    if len(values) < total and len(values) < 3:
        return False
    padded = len({len(number) for number in numbers}) == 1 and numbers[0].startswith("0")
    dense = values[0] <= 1 and values[-1] - values[0] < len(values)
    return padded or dense or (all("." in match[2] for match in matches) and len(values) > 2)


def _wordnet(ids: Sequence[str]) -> dict[str, str]:
    """The words of WordNet ids, of ImageNet's 21,841 classes; unknown ones stay."""
    if not ids:
        return {}
    from timm.data.imagenet_info import ImageNetInfo

    thousand, all_ = ImageNetInfo(), ImageNetInfo("imagenet-22k")
    known = {}
    for one in ids:
        info = next((info for info in (thousand, all_) if one in info.label_names()), None)
        if info is not None:
            known[one] = info.label_name_to_description(one, detailed=True)
    first = {one: text.partition(":")[0].split(", ") for one, text in known.items()}
    words = {}
    for one, synonyms in first.items():
        name = synonyms[0]
        others = [other for other in first if other != one and first[other][0] == name]
        if others:  # as two cranes of ImageNet
            more = synonyms[1:] if all(first[other] != synonyms for other in others) else []
            gloss = re.split(r"[;,(]", known[one].partition(": ")[2])[0].strip()
            name = f"{name} ({', '.join(more) or gloss})"
        words[one] = name
    return words


def _refuse_twins(bare: Mapping[str, str], where: str) -> None:
    for form, how in (
        (lambda text: text, "are both read as the class {words!r}"),
        (
            lambda text: unicodedata.normalize("NFKC", text).casefold().rstrip(". "),
            "differ by case or a stop alone",
        ),
    ):
        first: dict[str, str] = {}
        for name, words in bare.items():
            other = first.setdefault(form(words), name)
            if other != name:
                raise ValueError(
                    f"{where}: {printable(other)!r} and {printable(name)!r} "
                    f"{how.format(words=words)}: rename or merge them, or give both the same words "
                    f"({OPTION})"
                )


_GENERIC = {"class", "cls", "label", "category", "type", "group", "folder", "id", "no", "nr"}


def looks_like_code(words: str) -> bool:
    """Whether a class name says nothing in a prompt: `7`, `c0`, `class 3`, `n01440764`, `BCC`."""
    runs = [run for run in re.findall(r"[^\W\d_]+", words) if run.lower() not in _GENERIC]
    longest = max(map(len, runs), default=0)
    if longest < 2 or (re.search(r"\d", words) and longest < 3):
        return True
    if re.fullmatch(r"[0-9a-f-]{8,}", words.lower()) and re.search(r"\d", words):
        return True
    return all(re.fullmatch(r"[B-DF-HJ-NP-TV-Z]{2,5}", run) for run in runs)


def _is_foreign(words: str) -> bool:
    letters = [one for one in words if one.isalpha()]
    return any(not unicodedata.name(one, "").startswith("LATIN") for one in letters)


def _doubts(bare: Mapping[str, str]) -> list[str]:
    """Remarks on names that say little or nothing in a prompt."""
    foreign = [words for words in bare.values() if _is_foreign(words)]
    codes = [words for words in bare.values() if looks_like_code(words) and words not in foreign]
    remarks = []
    if codes:
        remarks.append(
            f"{_count(len(codes), 'class name looks', 'class names look')} like codes, which say "
            f"nothing in a prompt: {_few(codes)}; {HOW}"
        )
    if foreign:
        remarks.append(
            f"{_count(len(foreign), 'class name is', 'class names are')} in a script that most "
            f"text encoders were hardly trained on: {_few(foreign)}; {HOW}"
        )
    return remarks


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _few(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(printable(name) for name in names[:limit]) + more
