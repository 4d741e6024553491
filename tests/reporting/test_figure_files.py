"""Figures show class names of any script, with what fonts there are, and say what has none."""

import io
import warnings

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from PIL import Image

from sgid.reporting import figure_files
from sgid.reporting.figure_files import encode, families, text_width

LETTERS = "猫犬고양"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A font whose Chinese and Korean letters are full squares."""
    pen = TTGlyphPen(None)
    for place in ((0, 0), (0, 900), (900, 900), (900, 0)):
        (pen.lineTo if pen.points else pen.moveTo)(place)
    pen.closePath()
    names = [".notdef", *(f"uni{ord(letter):04X}" for letter in LETTERS)]
    font = FontBuilder(1000)
    font.setupGlyphOrder(names)
    font.setupCharacterMap(dict(zip(map(ord, LETTERS), names[1:], strict=True)))
    font.setupGlyf(dict.fromkeys(names, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "squares.ttf")
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    fontManager.addfont(tmp_path / "squares.ttf")
    forget()
    yield "Squares"
    forget()


@pytest.fixture
def bare(monkeypatch):
    """A machine with Matplotlib's own fonts alone."""
    own = [font for font in fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(fontManager, "ttflist", own)
    forget()
    yield
    forget()


def forget():
    figure_files._letters.cache_clear()
    figure_files._candidates.cache_clear()


def ink(text: str) -> int:
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, text)
    image = Image.open(io.BytesIO(encode(figure))).convert("L")
    return sum(image.point(lambda level: level < 128).histogram()[1:])


def test_letters_come_from_an_installed_font(bare, installed, caplog):
    assert families("a cat") == ["DejaVu Sans"]
    assert families("cat 猫") == ["DejaVu Sans", installed]
    assert ink("猫犬") > 4 * ink("ab")  # two full squares, in place of hollow boxes
    assert text_width("猫犬고양") == pytest.approx(4 * 8 / 72, rel=0.05)
    assert caplog.text == ""


def test_letters_without_a_font_are_told_once_and_by_name(bare, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ink("кошка, γάτα, 猫 and 犬")
    (said,) = caplog.messages
    assert "boxes for 猫犬: no installed font" in said and "fonts-noto-cjk" in said
