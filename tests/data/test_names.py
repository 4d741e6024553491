import os

import pytest

from sgid.data.listing import commands, from_file, phrase, printable, words


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("aquarium_fish", "aquarium fish"),
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("apple_pie", "apple pie"),
        ("T-shirt/top", "T-shirt/top"),
        ("707-320", "707-320"),
        ("3.14", "3.14"),
        ("_", "_"),
    ],
)
def test_codes_become_words(code, said):
    assert words(code) == said


@pytest.mark.parametrize(
    ("name", "noun", "said"),
    [
        ("pink primrose", "flower", "pink primrose flower"),
        ("sunflower", "flower", "sunflower"),
        ("Passion Flower", "flower", "Passion Flower"),
        ("Cirrus Aircraft SR-20", "aircraft", "Cirrus Aircraft SR-20 aircraft"),
        ("cat", None, "cat"),
    ],
)
def test_the_noun_is_added_once(name, noun, said):
    assert phrase(name, noun) == said


@pytest.mark.parametrize(
    "code", [*range(0x2028, 0x202F), *range(0x2066, 0x206A), 0x61C, 0x200E, 0x200F]
)
def test_what_turns_the_text_around_is_escaped(code):
    name = f"a{chr(code)}b"
    assert commands(name) and printable(name) == f"a\\u{code:04x}b"
    assert printable("été 日本 🙂 \u200d") == "été 日本 🙂 \u200d", "a joiner is spelling"


def test_a_files_name_can_be_stored():
    assert from_file(os.fsdecode(b"caf\xe9")) == "caf\\xe9"
    assert from_file("cafe\u0301") == "café"
