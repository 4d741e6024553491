"""Class names as words: from folder codes to names, and from names to what a prompt says."""

from __future__ import annotations

import os
import re
import unicodedata

# What moves the cursor, colours, or turns the text around (C0, C1, Unicode's bidirectional marks).
_COMMAND = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def from_file(name: str) -> str:
    """A file's name as text that can be stored: NFC, bytes that are not UTF-8 escaped."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def words(code: str) -> str:
    """`aquarium_fish` -> `aquarium fish`; a number in front (`001.Laysan_Albatross`) is dropped."""
    bare = re.sub(r"^\d+\.(?=\D)", "", code)
    return " ".join(bare.replace("_", " ").split()) or code


def phrase(class_name: str, noun: str | None) -> str:
    """`pink primrose`, `flower` -> `pink primrose flower`; a name that ends so stays."""
    if not noun or class_name.lower().endswith(noun.lower()):
        return class_name
    return f"{class_name} {noun}"


def commands(text: str) -> bool:
    """Whether `text` holds characters that a terminal would obey rather than show."""
    return _COMMAND.search(text) is not None


def printable(text: str) -> str:
    r"""`text` with those characters as escapes, such as `\n` and `\x1b`."""
    return _COMMAND.sub(lambda one: one[0].encode("unicode_escape").decode(), text)
