import pytest

from sgid.data.names import phrase, words


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
