"""Image files of figures, with installed fonts for letters that Matplotlib's own does not have."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure


log = logging.getLogger(__name__)

BASE = "DejaVu Sans"
"""The font that comes with Matplotlib: Latin, Greek, Cyrillic, some Arabic and Hebrew."""


def families(text: str) -> list[str]:
    """Names of the fonts that together have the letters of `text`, as far as any has them."""
    names, missing = [BASE], set(text) - _letters(BASE)
    for name in _candidates() if _visible(missing) else ():
        if found := missing & _letters(name):
            names.append(name)
            missing -= found
        if not _visible(missing):
            break
    return names


def encode(figure: Figure, kind: Literal["png", "svg"] = "png") -> bytes:
    """The file of a figure: the same bytes for the same figure, whenever it is made."""
    import matplotlib

    buffer = io.BytesIO()
    # An SVG has random names and the date in it, a PNG the version of matplotlib.
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "sgid"}), warnings.catch_warnings():
        _use_installed_fonts(figure)
        figure.savefig(buffer, format=kind, facecolor="white", metadata=metadata)
    return buffer.getvalue()


def text_width(text: str, fontsize: float = 8) -> float:
    """The width of one line, in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=families(text), size=fontsize)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def _use_installed_fonts(figure: Figure) -> None:
    """Give each text of a figure the fonts for its letters; warn, once, of letters without one."""
    from matplotlib.text import Text

    lost: dict[str, None] = {}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if (written := text.get_text()).isascii():
            continue
        chosen = families(written)
        text.set_fontfamily(chosen)
        missing = _visible(set(written).difference(*map(_letters, chosen)))
        lost |= dict.fromkeys(letter for letter in written if letter in missing)
    if lost:
        log.warning(
            "figures show boxes for %s: no installed font has them. Install one (Debian and "
            "Ubuntu: fonts-noto-cjk for Chinese, Japanese and Korean, fonts-noto-core for other "
            "scripts), or give the classes other words (dataset.classes=FILE)",
            "".join(list(lost)[:12]) + ("…" if len(lost) > 12 else ""),
        )
        # In place of Matplotlib's, which is a line for each letter.
        warnings.filterwarnings("ignore", message="(?s)Glyph .* missing from")


def _visible(letters: Iterable[str]) -> set[str]:
    return {one for one in letters if one.isprintable() and not one.isspace()}


@cache
def _letters(family: str) -> frozenset[str]:
    """All letters that a font has."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(map(chr, get_font(findfont(FontProperties(family=[family]))).get_charmap()))


@cache
def _candidates() -> tuple[str, ...]:
    """Installed fonts with an upright cut, the well-drawn and wide ones first."""
    from matplotlib.font_manager import fontManager

    names = {
        font.name for font in fontManager.ttflist if font.style == "normal" and font.weight == 400
    }
    names = {name for name in names if "lastresort" not in name.lower().replace(" ", "")}  # boxes
    liked = ("Noto Sans", "PingFang", "Hiragino", "Microsoft", "Malgun", "Yu Gothic", "Arial")
    return tuple(sorted(names, key=lambda name: (not name.startswith(liked), name)))
