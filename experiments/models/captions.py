"""Captions by a world's rules over measured attributes of an image, as weak as the web's alt text.

The rules see pixels and nothing of the class but the noun. The noun is exact in about 60% of the
captions, coarse or missing in 30%, and wrong in 10%; attributes are left out at random.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from experiments.models.world import Attributes, World

EXACT_SHARE, COARSE_SHARE, MISSING_SHARE = 0.6, 0.2, 0.1  # the rest is wrong
TEMPLATES = (
    "a {what}", "a photo of a {what}", "{what}", "a photo of a {noun}, a {what}", "{noun}, {what}",
    "a photo of a {noun}", "this {what}",
)  # fmt: skip


def caption(
    world: World,
    attributes: Attributes,
    image: int,
    label: int,
    rng: np.random.Generator,
    *,
    clean: bool = False,
) -> str:
    """A random caption of one image; `clean` always gives the exact noun."""
    noun = world.class_names[label] if clean else weak_noun(world, label, rng)
    before, after = world.phrases(attributes, image)
    words = [
        *(phrase if rng.random() < chance else "" for phrase, chance in before),
        noun,
        *(phrase if rng.random() < chance else "" for phrase, chance in after),
    ]
    what = " ".join(word for word in words if word)
    return rng.choice(TEMPLATES).format(what=what, noun=noun or "thing").strip()


def descriptive_caption(
    world: World, attributes: Attributes, image: int, label: int, rng: np.random.Generator
) -> str:
    """A caption that says nearly everything, with a weak noun: what BLIP is taught to write."""
    noun = weak_noun(world, label, rng)
    before, after = world.phrases(attributes, image)
    words = [
        *(phrase for phrase, _ in before if phrase and rng.random() < 0.9),
        *([noun] if noun else []),
        *(phrase for phrase, _ in after if phrase and rng.random() < 0.9),
    ]
    return "a " + " ".join(words)


def weak_noun(world: World, label: int, rng: np.random.Generator) -> str:
    """The class's name, its kind, nothing, or another class's name."""
    draw = rng.random()
    if draw < EXACT_SHARE:
        return world.class_names[label]
    if draw < EXACT_SHARE + COARSE_SHARE:
        return world.kinds[label]
    if draw < EXACT_SHARE + COARSE_SHARE + MISSING_SHARE:
        return ""
    others = [name for name in world.class_names if name != world.class_names[label]]
    return str(rng.choice(others))


def prompt(
    world: World,
    attributes: Attributes,
    image: int,
    label: int,
    rng: np.random.Generator,
    *,
    clean: bool = False,
) -> str:
    """Alt text, or in half of the cases two texts of one image: `a photo of a <noun>, <caption>`.

    The two nouns are drawn apart, so that they contradict each other at times. SGID's prompts do so
    as well, where the captioner is wrong about the label, and the model should have met that.
    """
    if clean or rng.random() < 0.5:
        return caption(world, attributes, image, label, rng, clean=clean)
    noun = weak_noun(world, label, rng) or "thing"
    return f"a photo of a {noun}, {descriptive_caption(world, attributes, image, label, rng)}"


def vocabulary(world: World, folder: Path) -> list[str]:
    """Every word that a caption or a class name can hold, in lower case, letters only."""
    phrases = [*world.class_names, *world.kinds, *TEMPLATES, "thing", *world.more_words(folder)]
    phrases += [word for words in world.words.values() for word in words]
    text = " ".join(phrases).replace("{what}", "").replace("{noun}", "")
    return sorted(set(re.findall(r"[^\W\d_]+", text.lower())))
