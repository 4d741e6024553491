"""The folders in a folder and the files below it: links followed, without loops.

Links are followed because sets are often put together from them, but never to a folder that holds
the place where the link was met: so there is no loop, and no way up and out by `..`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def folders_in(top: Path) -> list[Path]:
    """The folders in `top` that are not hidden, by name."""
    return sorted(path for path in top.iterdir() if _is_folder(path, top))


def files_below(top: Path) -> Iterator[Path]:
    """Every file below `top` at any depth; hidden folders are not entered.

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


def _is_folder(path: Path, *places: Path) -> bool:
    if path.name.startswith(".") or not path.is_dir():
        return False
    if not path.is_symlink():
        return True
    target = path.resolve()
    return not any(place.resolve().is_relative_to(target) for place in places)
