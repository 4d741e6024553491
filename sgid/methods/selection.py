"""Selection among generated images: redraw until accepted, and GeNIe-Ada's noise level.

A rule looks at generated images and says of each whether it is accepted, and how good it is. An
image that no attempt made acceptable stays in the store, and is left out of the training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sgid.methods.method import Draw
from sgid.methods.probe import Probe, load_probe, softmax, unit
from sgid.methods.strength import extremes
from sgid.records import Generated, Request

if TYPE_CHECKING:
    from sgid.methods.requests import RequestPlan


class Rule(Protocol):
    """A rule that accepts images and scores them."""

    def __call__(
        self, images: Sequence[Generated], plan: RequestPlan, models: Any
    ) -> tuple[NDArray[np.bool_], NDArray]:
        """Whether each of N images is accepted, (N,), and its score in [0, 1], (N,)."""
        ...


def redraw(
    requests: Sequence[Request],
    generate: Callable[[Sequence[Request]], Iterator[Generated]],
    plan: RequestPlan,
    models: Any,
    *,
    accept: Sequence[Rule],
    attempts: int,
) -> Iterator[Generated]:
    """Draw each request until all rules accept it, each time with a new seed, `attempts` at most.

    With 1 attempt it is a filter. Of a request that is never accepted the attempt of the highest
    score is given, marked as not accepted; with several rules the least score counts.
    """
    best: dict[tuple[str, int], Generated] = {}
    waiting = list(requests)
    for attempt in range(1, attempts + 1):
        images = list(generate(waiting))
        verdicts = [rule(images, plan, models) for rule in accept]
        accepted = np.logical_and.reduce([one for one, _ in verdicts])
        scores = np.minimum.reduce([one for _, one in verdicts])
        waiting = []
        for image, fine, score in zip(images, accepted, scores, strict=True):
            own = image.request.described.key, image.request.repeat
            image = replace(image, attempts=attempt, accepted=bool(fine), score=float(score))
            if fine:
                best.pop(own, None)
                yield image
                continue
            if own not in best or best[own].score < image.score:
                best[own] = image
            again = Draw(plan.seed, *own).again(attempt)
            waiting.append(replace(image.request, seed=again))
        if not waiting:
            break
    yield from (replace(image, attempts=attempts) for image in best.values())


def largest_jump(
    requests: Sequence[Request],
    generate: Callable[[Sequence[Request]], Iterator[Generated]],
    plan: RequestPlan,
    models: Any,
) -> Iterator[Generated]:
    """Draw each request at all strengths of the method, and give that just past the largest jump.

    GeNIe-Ada (arXiv 2312.02548): with z the features of the original and t the prototype of the
    target class, an image with features x has come d = (x - z)·(t - z) / |t - z|² of the way; the
    strength is taken at which d differs most from that of the strength before it.
    """
    strengths = sorted(extremes(plan.method.strength))
    probe, scorer = load_probe(plan.artifact), models.scorer
    several = [replace(one, strength=strength) for one in requests for strength in strengths]
    drawn: dict[tuple[str, int], dict[float, Generated]] = {}
    for image in generate(several):
        own = image.request.described.key, image.request.repeat
        drawn.setdefault(own, {})[image.request.strength] = image
    starts = scorer.embed_images([one.init_image for one in requests])
    for request, start in zip(requests, starts, strict=True):
        images = drawn[request.described.key, request.repeat]
        features = scorer.embed_images([images[strength].image for strength in strengths])
        way = way_to_target(features, start, probe.prototypes[request.label])
        chosen = images[strengths[past_largest_jump(way)]]
        yield replace(chosen, attempts=len(strengths))


def way_to_target(features: NDArray, source: NDArray, target: NDArray) -> NDArray:
    """(N,): the share of the way from `source` (D,) to `target` (D,) that `features` (N, D) are."""
    way = target - source
    return (features - source) @ way / (way @ way)


def past_largest_jump(way: NDArray) -> int:
    """The index behind the largest difference of neighbours; 0 of a single one."""
    return int(np.abs(np.diff(way)).argmax()) + 1 if len(way) > 1 else 0


def clip_label(
    images: Sequence[Generated], plan: RequestPlan, models: Any
) -> tuple[NDArray[np.bool_], NDArray]:
    """Accept an image whose class CLIP finds the likeliest of all; scored by its probability."""
    probabilities = _zero_shot(images, plan, models)
    own = _labels(images)
    return probabilities.argmax(1) == own, probabilities[np.arange(len(own)), own]


def above_chance(
    images: Sequence[Generated], plan: RequestPlan, models: Any
) -> tuple[NDArray[np.bool_], NDArray]:
    """Accept an image whose class has by CLIP a probability above 1 / number of classes."""
    probabilities = _zero_shot(images, plan, models)
    score = probabilities[np.arange(len(images)), _labels(images)]
    return score > 1 / probabilities.shape[1], score


def similar_to_prompt(
    images: Sequence[Generated], plan: RequestPlan, models: Any, *, min: float
) -> tuple[NDArray[np.bool_], NDArray]:
    """Accept an image whose CLIP cosine to its prompt is at least `min`; the cosine scores it."""
    texts = models.scorer.embed_texts([one.request.prompt for one in images])
    cosines = np.einsum("nd,nd->n", _features(images, models), texts)
    return cosines >= min, np.clip(cosines, 0, 1)


def looks_like(
    images: Sequence[Generated],
    plan: RequestPlan,
    models: Any,
    *,
    task: str,
    others: Sequence[str],
) -> tuple[NDArray[np.bool_], NDArray]:
    """Accept an image that CLIP finds closer to the text `task` than to all `others`."""
    texts = models.scorer.embed_texts([task, *others])
    probabilities = softmax(models.scorer.logit_scale * _features(images, models) @ texts.T)
    return probabilities.argmax(1) == 0, probabilities[:, 0]


def in_top(
    images: Sequence[Generated], plan: RequestPlan, models: Any, *, k: int
) -> tuple[NDArray[np.bool_], NDArray]:
    """Accept an image whose class is among the `k` likeliest by the prepared classifier."""
    probabilities, own = _probed(images, plan, models)
    score = probabilities[np.arange(len(own)), own]
    return (probabilities > score[:, None]).sum(1) < k, score


def neither_easy_nor_wrong(
    images: Sequence[Generated], plan: RequestPlan, models: Any
) -> tuple[NDArray[np.bool_], NDArray]:
    """Accept an image of whose class, or of another, the prepared classifier is not confident.

    It is confident of a class when that is its likeliest, and its probability at least the mean
    that held-out training images of that class have: ALIA's filter (arXiv 2305.16289).
    """
    probabilities, own = _probed(images, plan, models)
    guess = probabilities.argmax(1)
    thresholds = load_probe(plan.artifact).thresholds
    confident = probabilities[np.arange(len(own)), guess] >= thresholds[guess]
    return ~confident, probabilities[np.arange(len(own)), own]


def graded(
    images: Sequence[Generated], plan: RequestPlan, models: Any
) -> tuple[NDArray[np.bool_], NDArray]:
    """Accept all, and score by the prepared classifier: 1 from probability .5 on, twice it below.

    DIAGen's quality of an image (arXiv 2408.14584), by the mean over the image and its mirror.
    """
    from PIL import ImageOps

    mirrored = [replace(one, image=ImageOps.mirror(one.image)) for one in images]
    own = _labels(images)
    views = [_probed(some, plan, models)[0] for some in (images, mirrored)]
    own_probability = np.mean(views, 0)[np.arange(len(own)), own]
    return np.ones(len(own), bool), np.minimum(1, 2 * own_probability)


def _labels(images: Sequence[Generated]) -> NDArray[np.int64]:
    return np.array([one.request.label for one in images])


def _features(images: Sequence[Generated], models: Any) -> NDArray:
    return models.scorer.embed_images([one.image for one in images]).astype(np.float64)


def _probed(
    images: Sequence[Generated], plan: RequestPlan, models: Any
) -> tuple[NDArray, NDArray[np.int64]]:
    """Probabilities (N, C) by the prepared classifier, and the labels (N,)."""
    probe: Probe = load_probe(plan.artifact)
    return probe.probabilities(_features(images, models)), _labels(images)


def _zero_shot(images: Sequence[Generated], plan: RequestPlan, models: Any) -> NDArray:
    """(N, C): CLIP's probabilities of the classes by their names."""
    names = [f"a photo of a {phrase}" for phrase in plan.phrases]
    texts = unit(models.scorer.embed_texts(names).astype(np.float64))
    return softmax(models.scorer.logit_scale * _features(images, models) @ texts.T)
