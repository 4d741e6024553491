"""AutoAugment, RandAugment, TrivialAugment and AugMix against their papers' definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats
from torchvision.transforms import v2

SIDE = 32


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


# The papers' operations, by Pillow alone.
OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "Identity": lambda image, m: image,
    "AutoContrast": lambda image, m: ImageOps.autocontrast(image),
    "Equalize": lambda image, m: ImageOps.equalize(image),
    "Invert": lambda image, m: ImageOps.invert(image),
    "Posterize": lambda image, m: ImageOps.posterize(image, int(m)),
    "Solarize": lambda image, m: ImageOps.solarize(image, m),
    "Rotate": lambda image, m: image.rotate(m),
    "ShearX": lambda image, m: affine(image, 1, m, 0, 0, 1, 0),
    "ShearY": lambda image, m: affine(image, 1, 0, 0, m, 1, 0),
    "TranslateX": lambda image, m: affine(image, 1, 0, int(m), 0, 1, 0),
    "TranslateY": lambda image, m: affine(image, 1, 0, 0, 0, 1, int(m)),
    "Brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(1 + m),
    "Color": lambda image, m: ImageEnhance.Color(image).enhance(1 + m),
    "Contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(1 + m),
    "Sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(1 + m),
}
PLAIN = ("Identity", "AutoContrast", "Equalize", "Invert")

# What an operation does at its strongest, where that is an amount to either side.
MOST = {
    "Rotate": 30, "ShearX": 0.3, "ShearY": 0.3, "Brightness": 0.9, "Color": 0.9, "Contrast": 0.9,
    "Sharpness": 0.9, "TranslateX": 150 / 331 * SIDE, "TranslateY": 150 / 331 * SIDE,
}  # fmt: skip
WIDE = {
    "Rotate": 135, "ShearX": 0.99, "ShearY": 0.99, "Brightness": 0.99, "Color": 0.99,
    "Contrast": 0.99, "Sharpness": 0.99, "TranslateX": 32, "TranslateY": 32,
}  # fmt: skip


def amounts(name: str, step: int, steps: int, most: dict[str, float], bits: int) -> list[float]:
    """The equally likely amounts of an operation at magnitude `step` of 0 to `steps`."""

    def share_of(start: float, end: float) -> float:
        return float(torch.linspace(start, end, steps + 1)[step])  # in 32 bits, as torchvision

    if name in PLAIN:
        return [0.0]
    if name == "Posterize":
        return [round(8 - (8 - bits) * step / steps)]
    if name == "Solarize":
        return [255 * share_of(1, 0)]
    amount = share_of(0, most[name])
    return [amount, -amount]


Outcomes = list[tuple[str, float, Image.Image]]
"""What may come of an image: a label, the probability, and the picture."""


def check(transform, image: Image.Image, outcomes: Outcomes, draws: int) -> None:
    """`transform` gives these pictures and no others, as often as it should."""
    labels: dict[int, set[str]] = {}
    for label, _, picture in outcomes:
        labels.setdefault(hash(picture.tobytes()), set()).add(label)
    named = {picture: " or ".join(sorted(ones)) for picture, ones in labels.items()}
    chances = Counter()
    for _, chance, picture in outcomes:
        chances[named[hash(picture.tobytes())]] += chance
    assert sum(chances.values()) == pytest.approx(1)
    torch.manual_seed(0)
    seen = Counter(named[hash(transform(image).tobytes())] for _ in range(draws))
    often = [label for label, chance in chances.items() if chance * draws >= 5]
    expected = [chances[label] * draws for label in often]
    observed = [seen[label] for label in often]
    if draws - sum(expected) > 1:  # the rare ones as one
        expected.append(draws - sum(expected))
        observed.append(draws - sum(observed))
    assert len(often) > 5 and stats.chisquare(observed, expected).pvalue > 1e-3


# "operation probability magnitude, operation probability magnitude" (Cubuk et al., 2019, appendix)
AUTOAUGMENT = {
    "imagenet": """
        Posterize .4 8, Rotate .6 9 | Solarize .6 5, AutoContrast .6 5
        Equalize .8 8, Equalize .6 3 | Posterize .6 7, Posterize .6 6
        Equalize .4 7, Solarize .2 4 | Equalize .4 4, Rotate .8 8
        Solarize .6 3, Equalize .6 7 | Posterize .8 5, Equalize 1 2
        Rotate .2 3, Solarize .6 8 | Equalize .6 8, Posterize .4 6
        Rotate .8 8, Color .4 0 | Rotate .4 9, Equalize .6 2
        Equalize 0 7, Equalize .8 8 | Invert .6 4, Equalize 1 8
        Color .6 4, Contrast 1 8 | Rotate .8 8, Color 1 2
        Color .8 8, Solarize .8 7 | Sharpness .4 7, Invert .6 8
        ShearX .6 5, Equalize 1 9 | Color .4 0, Equalize .6 3
        Equalize .4 7, Solarize .2 4 | Solarize .6 5, AutoContrast .6 5
        Invert .6 4, Equalize 1 8 | Color .6 4, Contrast 1 8
        Equalize .8 8, Equalize .6 3
    """,
    "cifar10": """
        Invert .1 7, Contrast .2 6 | Rotate .7 2, TranslateX .3 9
        Sharpness .8 1, Sharpness .9 3 | ShearY .5 8, TranslateY .7 9
        AutoContrast .5 8, Equalize .9 2 | ShearY .2 7, Posterize .3 7
        Color .4 3, Brightness .6 7 | Sharpness .3 9, Brightness .7 9
        Equalize .6 5, Equalize .5 1 | Contrast .6 7, Sharpness .6 5
        Color .7 7, TranslateX .5 8 | Equalize .3 7, AutoContrast .4 8
        TranslateY .4 3, Sharpness .2 6 | Brightness .9 6, Color .2 8
        Solarize .5 2, Invert 0 3 | Equalize .2 0, AutoContrast .6 0
        Equalize .2 8, Equalize .6 4 | Color .9 9, Equalize .6 6
        AutoContrast .8 4, Solarize .2 8 | Brightness .1 3, Color .7 0
        Solarize .4 5, AutoContrast .9 3 | TranslateY .9 9, TranslateY .7 9
        AutoContrast .9 2, Solarize .8 3 | Equalize .8 8, Invert .1 3
        TranslateY .7 9, AutoContrast .9 1
    """,
}


def sub_policies(policy: str) -> Iterator[list[tuple[str, float, int]]]:
    for pair in AUTOAUGMENT[policy].replace("\n", "|").split("|"):
        if pair.strip():
            steps = [step.split() for step in pair.split(",")]
            yield [(name, float(chance), int(magnitude)) for name, chance, magnitude in steps]


def after(steps: Iterable[tuple[str, float, int]], image: Image.Image) -> list:
    """(probability, picture) of all that a sub-policy may make of an image."""
    states = [(1.0, image)]
    for name, chance, magnitude in steps:
        ways = amounts(name, magnitude, 9, MOST, bits=4)
        states = [
            state
            for share, one in states
            for state in [
                (share * (1 - chance), one),
                *((share * chance / len(ways), OPERATIONS[name](one, way)) for way in ways),
            ]
        ]
    return states


@pytest.mark.parametrize("policy", AUTOAUGMENT)
def test_autoaugment_takes_one_of_25_pairs_of_operations(make, coloured, policy):
    pairs = list(sub_policies(policy))
    assert len(pairs) == 25
    outcomes = [
        (str(pair), chance / 25, picture)
        for pair in pairs
        for chance, picture in after(pair, coloured[0])
        if chance > 0
    ]
    _, transform = make("autoaugment", policy=policy)
    check(transform, coloured[0], outcomes, draws=1500)


def test_autoaugment_names_its_policies():
    from sgid.training.transforms import autoaugment

    with pytest.raises(ValueError, match="policy=imagnet: must be one of imagenet, cifar10, svhn"):
        autoaugment(policy="imagnet")


FOURTEEN = [name for name in OPERATIONS if name != "Invert"]


def test_randaugment_takes_n_operations_of_one_magnitude(make, coloured):
    image = coloured[1]

    def one(image: Image.Image) -> Outcomes:
        return [
            (name, 1 / 14 / len(ways), OPERATIONS[name](image, way))
            for name in FOURTEEN
            for ways in [amounts(name, 9, 30, MOST, bits=4)]
            for way in ways
        ]

    check(make("randaugment", num_ops=1)[1], image, one(image), draws=1000)
    outcomes = [
        (f"{first}, {second}", chance * other, picture)
        for first, chance, between in one(image)
        for second, other, picture in one(between)
    ]
    check(make("randaugment")[1], image, outcomes, draws=1000)


def test_trivialaugment_takes_one_operation_of_any_magnitude(make, coloured):
    outcomes = [
        (f"{name} {strength // 8}", 1 / 14 / 31 / len(ways), OPERATIONS[name](coloured[2], way))
        for name in FOURTEEN
        for strength in range(31)
        for ways in [amounts(name, strength, 30, WIDE, bits=2)]
        for way in ways
    ]
    check(make("trivialaugment")[1], coloured[2], outcomes, draws=2000)


class Spy:
    """Notes what an AugMix draws and does, through the methods that torchvision has for it."""

    def __init__(self, monkeypatch) -> None:
        self.shares: list[torch.Tensor] = []
        self.calls: list[tuple[torch.Tensor, str, float, torch.Tensor]] = []
        sample, apply = v2.AugMix._sample_dirichlet, v2.AugMix._apply_image_or_video_transform

        def sampled(this, alpha):
            self.shares.append(sample(this, alpha))
            return self.shares[-1]

        def applied(this, image, name, magnitude, **options):
            result = apply(this, image, name, magnitude, **options)
            self.calls.append((image, name, magnitude, result))
            return result

        monkeypatch.setattr(v2.AugMix, "_sample_dirichlet", sampled)
        monkeypatch.setattr(v2.AugMix, "_apply_image_or_video_transform", applied)

    def chains(self) -> list[list[tuple[str, float, torch.Tensor]]]:
        """The operations of the last image, by chain: each begins with the image itself."""
        start, chains = self.calls[0][0], []
        for image, name, magnitude, result in self.calls:
            if image is start:
                chains.append([])
            chains[-1].append((name, magnitude, result))
        return chains


def test_augmix_blends_the_image_with_chains_of_operations(make, coloured, monkeypatch):
    _, transform = make("augmix")
    spy = Spy(monkeypatch)
    torch.manual_seed(0)
    kept, first, depths, names = [], [], Counter(), Counter()
    for draw in range(200):
        spy.shares, spy.calls = [], []
        image = coloured[draw % len(coloured)]
        result = v2.functional.pil_to_tensor(transform(image))
        (m,), (weights,) = spy.shares
        chains = spy.chains()
        assert len(chains) == len(weights) == 3
        expected = m[0] * v2.functional.pil_to_tensor(image)
        for weight, chain in zip(weights, chains, strict=True):
            expected = expected + m[1] * weight * chain[-1][2][0]
            depths[len(chain)] += 1
            names.update(name for name, _, _ in chain)
            for name, magnitude, _ in chain:
                most = {**MOST, "TranslateX": SIDE / 3, "TranslateY": SIDE / 3}.get(name)
                assert most is None or abs(magnitude) <= most * 0.3
        assert (result - expected).abs().max() <= 1  # torchvision drops what is behind the point
        assert m.sum() == pytest.approx(1) and weights.sum() == pytest.approx(1)
        kept.append(float(m[0]))
        first.append(float(weights[0]))
    assert stats.kstest(kept, stats.beta(1, 1).cdf).pvalue > 1e-3
    assert stats.kstest(first, stats.beta(1, 2).cdf).pvalue > 1e-3  # a marginal of Dirichlet(1,1,1)
    assert set(depths) == {1, 2, 3} and stats.chisquare(list(depths.values())).pvalue > 1e-3
    colours = {"Brightness", "Color", "Contrast", "Sharpness"}
    assert set(names) == set(FOURTEEN) - colours - {"Identity"}
    assert stats.chisquare(list(names.values())).pvalue > 1e-3
