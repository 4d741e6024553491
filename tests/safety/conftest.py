"""Code that must not be run: it would leave a mark."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import images, own, place

__all__ = ["images", "own", "place"]  # fixtures


class Bomb:
    """What makes `mark` when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path) -> Path:
    """A file that is there once something was run that should not have been."""
    return tmp_path / "mark"


@pytest.fixture
def bomb(mark) -> bytes:
    """A pickle that makes the mark; it does so here once, or the tests would show nothing."""
    data = pickle.dumps(Bomb(mark))
    pickle.loads(data)
    assert mark.exists()
    mark.unlink()
    return data


@pytest.fixture
def stranger(tmp_path, mark, monkeypatch) -> Iterator[str]:
    """The name of a package of somebody's that can be imported; its import is marked."""
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\ndef run(*a, **k): pass\n"
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "stranger.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    yield "stranger"
    sys.modules.pop("stranger", None)
