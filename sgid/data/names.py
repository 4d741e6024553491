"""Class names as words: from folder codes to names, and from names to what a prompt says."""

from __future__ import annotations

import re


def words(code: str) -> str:
    """`aquarium_fish` -> `aquarium fish`; a number in front (`001.Laysan_Albatross`) is dropped."""
    bare = re.sub(r"^\d+\.(?=\D)", "", code)
    return " ".join(bare.replace("_", " ").split()) or code


def phrase(class_name: str, noun: str | None) -> str:
    """`pink primrose`, `flower` -> `pink primrose flower`; a name that ends so stays."""
    if not noun or class_name.lower().endswith(noun.lower()):
        return class_name
    return f"{class_name} {noun}"
