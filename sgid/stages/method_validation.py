"""Problems of the generative methods among `conf/aug/`, said before any work."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_method, instantiate

from sgid.config.schema import Config
from sgid.generation.diffusers_pipeline import PipelineEngine
from sgid.methods import prompts
from sgid.methods.describe import CAPTIONS
from sgid.methods.feedback import CRITERIA
from sgid.methods.method import SECTIONS, Method, section
from sgid.methods.strength import extremes

GUIDANCE = 30.0
"""The largest guidance scale; images are burnt long before it."""

PROBE = "sgid.methods.probe.linear_probe"
CONCEPTS = "sgid.methods.concepts.Concepts"
PREPARED = {
    "sgid.methods.selection.in_top": PROBE,
    "sgid.methods.selection.graded": PROBE,
    "sgid.methods.selection.neither_easy_nor_wrong": PROBE,
    "sgid.methods.selection.largest_jump": PROBE,
    "sgid.methods.gif.informative": PROBE,
    "sgid.methods.feedback.uncertain": PROBE,
    "sgid.methods.distdiff.near_prototypes": "sgid.methods.distdiff.prototypes",
    "sgid.methods.diff_ii.between_two": "sgid.methods.diff_ii.inverted",
    "sgid.methods.dalda.scale_by_clip": "sgid.methods.dalda.class_probabilities",
    "sgid.methods.concepts.learned": CONCEPTS,
}
"""Parts of methods, with what must have been prepared for them."""

PREDICTED = ("sgid.methods.feedback.uncertain", "sgid.methods.distdiff.near_prototypes")
"""Parts that look at predicted images, which not all schedulers give."""

LATENTS = ("sgid.methods.diff_ii.between_two", "sgid.methods.noise_cutmix.two_classes")
"""Changes of what only the batched engine draws: starts, second prompts, and masks of them."""


def method_problems(option: str, recipe: dict[str, Any], config: Config) -> Iterator[str]:
    """Problems of a generative method, but for values that it copies from the root config."""
    needed, optional = _parts()
    wrong = [f"{key} is missing" for key in sorted(needed - set(recipe))]
    wrong += [f"{key} is unknown" for key in sorted(set(recipe) - needed - optional)]
    if wrong:
        yield (
            f"{option}: {', '.join(wrong)}; a method has {', '.join(sorted(needed))}, and may have "
            f"{', '.join(sorted(optional))}"
        )
        return
    if (caption := recipe.get("caption", "best")) not in CAPTIONS:
        yield f"{option}.caption={caption}: must be one of {', '.join(CAPTIONS)}"
    given, from_image = recipe["strength"], recipe["from_image"]
    taken_over = str(given) == str(config.noise_rate)
    if not isinstance(from_image, bool):
        yield f"{option}.from_image={from_image}: must be true or false"
    if isinstance(given, dict) and "_target_" not in given and set(given) != {"min", "max"}:
        yield f"{option}.strength={given}: a range has min and max, and a rule a _target_"
        return
    fewest = recipe.get("fewest", 1)
    if not isinstance(fewest, int) or fewest < 1:
        yield f"{option}.fewest={fewest}: must be at least 1"
    for strength in extremes(given) or [given]:
        if not isinstance(strength, int | float) or not 0 < strength <= 1:
            if not taken_over:
                yield f"{option}.strength={strength}: must be above 0, at most 1, or a list of such"
        elif config.steps >= 1 and int(config.steps * strength) < 1:
            what = "noise_rate" if taken_over else f"{option}.strength"
            yield f"{what}={strength}: with steps={config.steps} no step would be run; raise either"
    for part in SECTIONS:
        if (given := recipe.get(part)) is not None:
            try:
                section(part, given, instantiate)
            except (TypeError, ValueError) as error:
                yield f"{option}.{part}: {error}"
            except InstantiationException as error:
                yield f"{option}.{part}: {error.__cause__ or error}"
    yield from _conditioned(option, recipe, config)
    yield from _misspelt(option, recipe)
    yield from _of_another_kind(option, recipe)
    yield from _never_done(option, recipe, config)
    if recipe.get("on_latents") and (mode := config.models.generator.memory):
        yield (
            f"{option}.on_latents looks into the model while it draws, and "
            f"models.generator.memory={mode} takes its parts apart; leave the latter out"
        )
    made = None
    if (prepare := recipe.get("prepare")) is not None:
        try:
            made = instantiate(prepare)
        except InstantiationException as error:
            yield f"{option}.prepare: {error.__cause__ or error}"
    if recipe["guidance"] != config.guidance:
        yield from guidance_problems(f"{option}.guidance", recipe["guidance"])
    learned = bool(recipe.get("adapters"))
    for key in ("prompt", "negative_prompt"):
        try:
            used = prompts.fields(_pool(recipe.get(key)))
        except (ValueError, TypeError, FileNotFoundError) as error:
            yield f"{option}.{key}: {error}"
            continue
        if recipe.get(key) == []:
            yield f"{option}.{key} is an empty list: give a text, or '' for none"
        learned |= prompts.TOKEN in used
        # A preparation of another kind, or one that is wrong and named already, may leave tokens.
        other = _target(prepare) not in (None, *PREPARED.values())
        learns = getattr(made, "vectors", int(other or (prepare is not None and made is None)))
        if prompts.TOKEN in used and learns < 1:
            yield (
                f"{option}.{key} has {{token}}, and nothing learns tokens; give {option}.prepare, "
                "such as that of aug=da_fusion, with vectors above 0, or take {label}"
            )
    if _target(recipe.get("adapters")) in PREPARED and getattr(made, "rank", 1) < 1:
        yield (
            f"{option}.adapters are LoRAs that {option}.prepare.rank=0 does not learn; take "
            f"{option}.adapters=null with it"
        )
    if learned and config.models.generator._target_.endswith(f".{PipelineEngine.__name__}"):
        yield (
            f"{option} draws with what it has learned, which models={config.models.name} cannot; "
            "take one of models=sd15, sd21, sdxl, ..."
        )


def _conditioned(option: str, recipe: dict[str, Any], config: Config) -> Iterator[str]:
    """Problems of conditions beside the text."""
    generator = config.models.generator
    if (scale := recipe.get("image_guidance")) is not None:
        if not isinstance(scale, int | float) or not 0 <= scale <= GUIDANCE:
            yield f"{option}.image_guidance={scale}: must be a number from 0 to {GUIDANCE:g}"
        if recipe["from_image"] is not True or recipe["strength"] != 1:
            yield (
                f"{option}.image_guidance: an image is edited from noise alone; take from_image: "
                "true and strength: 1"
            )
    further = {"image_prompt": "with image prompts", "edges": "along edges",
               "image_guidance": "edits", "on_latents": "with changes to latents"}  # fmt: skip
    if _target(recipe.get("changes")) in LATENTS:
        further["changes"] = "from latents, or by prompts, of its own"
    for part, what in further.items():
        if recipe.get(part) and generator._target_.endswith(f".{PipelineEngine.__name__}"):
            yield (
                f"{option} draws {what}, which models={config.models.name} cannot; take one of "
                "models=sd15, sd21, sdxl, ..."
            )
    if recipe.get("edges") and generator.deep_cache > 1:
        yield (
            f"{option} draws along edges, which change at every step what "
            f"models.generator.deep_cache={generator.deep_cache} keeps; take 1"
        )


def _target(node: Any) -> str | None:
    return node.get("_target_") if isinstance(node, Mapping) else None


def _calls(node: Any, place: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """All calls below a node of the config: place, target and the node."""
    if isinstance(node, Mapping):
        if (target := node.get("_target_")) is not None:
            yield place, str(target), node
        for key, value in node.items():
            yield from _calls(value, f"{place}.{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _calls(value, f"{place}.{number}")


def _misspelt(option: str, recipe: dict[str, Any]) -> Iterator[str]:
    """Arguments that functions do not have which are called later, with more of them."""
    for place, target, node in _calls(recipe, option):
        if not node.get("_partial_"):
            continue
        try:
            takes = inspect.signature(get_method(target))
        except Exception:  # who calls it tells
            continue
        given = {key: value for key, value in node.items() if not key.startswith("_")}
        try:
            takes.bind_partial(**given)
        except TypeError as error:
            own = [name for name, one in takes.parameters.items() if one.kind is one.KEYWORD_ONLY]
            yield f"{place}: {target} {error}; it has {', '.join(own) or 'none'}"


def _of_another_kind(option: str, recipe: dict[str, Any]) -> Iterator[str]:
    """Parts that others do not go with."""
    prepared = _target(recipe.get("prepare"))
    for place, target, node in _calls(recipe, option):
        needed = PREPARED.get(target)
        if needed and (prepared is None or (prepared in PREPARED.values() and prepared != needed)):
            yield f"{place}: {target} needs {option}.prepare._target_={needed}, not {prepared}"
        if target == "sgid.methods.selection.redraw" and not _at_least_one(node.get("attempts")):
            yield f"{place}.attempts={node.get('attempts')}: must be at least 1"
        if target == PREDICTED[0] and node.get("criterion") not in CRITERIA:
            yield f"{place}.criterion={node.get('criterion')}: must be one of {', '.join(CRITERIA)}"
        if target.endswith(".mixed_label") and isinstance(node.get("strength"), Mapping):
            yield (
                f"{option}.strength: a label that is shared by the strength needs a number or a "
                "list, no range or rule"
            )
        for key, allowed in _TEXTS.get(target, {}).items():
            try:
                used = prompts.fields(str(node.get(key, "")))
            except ValueError as error:
                yield f"{place}.{key}: {error}"
                continue
            if foreign := sorted(used - set(allowed)):
                yield (
                    f"{place}.{key} has {{{foreign[0]}}}; of it only "
                    f"{', '.join(f'{{{one}}}' for one in allowed)} is filled in"
                )
    if (recipe.get("use") or {}).get("scored") and not recipe.get("select"):
        yield f"{option}.use.scored: nothing scores the images; give {option}.select"


_TEXTS = {
    LATENTS[0]: {"later": prompts.OF_CLASSES},
    "sgid.methods.diff_ii.inverted": {"prompt": ("label",)},
}
"""Prompts in calls, and the fields that are filled in there."""


def _at_least_one(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


def _never_done(option: str, recipe: dict[str, Any], config: Config) -> Iterator[str]:
    """Changes to latents that no step would be left for, and strengths that nothing follows."""
    given, from_image = recipe["strength"], recipe["from_image"]
    if from_image is False and given != 1 and str(given) != str(config.noise_rate):
        yield f"{option}.strength={given}: of images that are drawn from noise it is 1"
    node, strengths = recipe.get("on_latents"), (extremes(given) or []) if from_image else [1.0]
    if not isinstance(node, Mapping) or not all(isinstance(one, int | float) for one in strengths):
        return
    for run in sorted({int(config.steps * one) for one in strengths}):
        first = None
        if _target(node) == PREDICTED[0]:
            first = node.get("every")
        elif _target(node) == PREDICTED[1] and isinstance(node.get("left"), int | float):
            first = max(1, round(run * (1 - node["left"])))
        if isinstance(first, int) and (first < 1 or first >= run):
            yield (
                f"{option}.on_latents: of steps={config.steps} {run} run, and it would change "
                f"something after {first} of them, which is none; raise steps"
            )


def _pool(given: Any) -> prompts.Pool:
    """The templates that an entry of `conf/aug/` names."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if isinstance(given, dict) and "_target_" in given:
        try:
            given = instantiate(given)
        except InstantiationException as error:
            raise ValueError(error.__cause__ or error) from error
    texts = [] if isinstance(given, str) or not given else prompts.templates(given)
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise ValueError(f"{wrong[0]!r} is no text")
    return given or ""


def _parts() -> tuple[set[str], set[str]]:
    """The keys that an entry of a method in `conf/aug/` must have, and those that it may have."""
    parts = [one for one in fields(Method) if one.name not in ("name", "spec")]
    needed = {one.name for one in parts if one.default is MISSING}
    return needed | {"slot"}, {one.name for one in parts} - needed


def guidance_problems(option: str, settings: dict[str, Any]) -> Iterator[str]:
    scales = {key: settings[key] for key in ("scale", "min", "max") if key in settings}
    wrong = [
        f"{option}.{key}={value}: must be a number from 0 to {GUIDANCE:g}"
        for key, value in scales.items()
        if not isinstance(value, int | float) or not 0 <= value <= GUIDANCE
    ]
    yield from wrong
    if not wrong and "min" in scales and "max" in scales and scales["min"] > scales["max"]:
        yield f"{option}.min={scales['min']}: must not be above {option}.max={scales['max']}"
    quantiles = settings.get("quantiles", [0, 1])
    if not ascending(quantiles):
        yield f"{option}.quantiles={quantiles}: must be two numbers within 0 and 1, the lower first"


def ascending(quantiles: Any) -> bool:
    """Whether these are two numbers with 0 <= first < second <= 1."""
    match quantiles:
        case [int() | float() as low, int() | float() as high]:
            return 0 <= low < high <= 1
    return False
