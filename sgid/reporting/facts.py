"""What a report says of how a run was made: pairs of a term and its text."""

from __future__ import annotations

from typing import Any

from sgid.reporting.arms import entry, generates
from sgid.reporting.results import Result
from sgid.reporting.wording import ABSENT, aug_text, call_text, value_text


def made(result: Result) -> list[tuple[str, str]]:
    """The choices that made the run, and the images it had; nothing that it did not use."""
    config, choices = result.config, result.choices
    rows = [(group, str(choices[group])) for group in ("dataset", "backbone") if group in choices]
    rows.append(("augmentation", aug_text(result.aug)))
    if generates(config, result.aug):
        rows += [
            ("models", str(choices.get("models", ABSENT))),
            ("images per original", value_text(config.get("expansion"))),
            ("denoising steps", value_text(config.get("steps"))),
        ]
        if config.get("filter"):
            rows.append(("filter", call_text(config["filter"])))
    for name in result.aug:
        rows += _method(name, entry(config, name))
    return rows + _images(result.protocol)


def _method(name: str, method: dict[str, Any]) -> list[tuple[str, str]]:
    """What an augmentation was asked for."""
    rows = []
    if "transform" in method:
        rows.append((f"transform of {name}", call_text(method["transform"])))
    if "prompt" in method:
        rows.append((f"prompt of {name}", method["prompt"] or "no text"))
    if "{caption}" in method.get("prompt", "") and "caption" in method:
        rows.append((f"caption of {name}", f"{method['caption']} of the candidates"))
    if method.get("from_image"):
        strength = value_text(method["strength"])
        rows.append((f"noise rate of {name}", f"{strength} (img2img strength)"))
    if "guidance" in method:
        rows.append((f"guidance of {name}", call_text(method["guidance"])))
    return rows


def _images(protocol: dict[str, Any]) -> list[tuple[str, str]]:
    """How many images each part has, and how it came about."""
    rows = []
    for part in ("train", "validation", "test"):
        if part in protocol:
            text = f"{protocol[part]:,}"
            pool = protocol.get(f"{part}_drawn_from", protocol[part])
            text += f" drawn from {pool:,}" if pool > protocol[part] else ""
            origin = protocol.get(f"{part}_from")
            rows.append((f"{part} images", f"{text}, {origin}" if origin else text))
    if protocol.get("train_per_class"):
        ends = dict.fromkeys(protocol["train_per_class"])
        rows.append(("train images per class", "–".join(f"{count:,}" for count in ends)))
    used = {
        "note": "note",
        "shots": "shots per class",
        "fraction": "share of each class trained on",
        "imbalance": "long tail, first class to last",
        "train_test_duplicates": "train images also in test",
    }
    rows += [(term, value_text(protocol[key])) for key, term in used.items() if protocol.get(key)]
    return rows


def provenance(result: Result) -> list[tuple[str, str]]:
    """Where the run came from, and what it cost."""
    seconds = [f"{stage} {value:,.0f} s" for stage, value in result.seconds.items()]
    versions = [f"{name} {version}" for name, version in result.versions.items()]
    return [
        ("fingerprint", result.fingerprint),
        ("commit", result.commit or "not in a git checkout"),
        ("time", ", ".join(seconds) or ABSENT),
        ("stores", ", ".join(result.stores) or "none"),
        ("versions", ", ".join(versions) or ABSENT),
    ]
