"""The page that a finished run leaves: `report.html`, readable anywhere, and its pictures."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

from sgid.evaluation.statistics import Estimate, paired_bootstrap
from sgid.reporting.arms import generates
from sgid.reporting.pictures import draw_pictures, image_uri
from sgid.reporting.results import (
    Example,
    Result,
    load_result,
    read_correct,
    read_examples,
)
from sgid.reporting.templates import render
from sgid.reporting.wording import (
    ABSENT,
    aug_text,
    p_text,
    run_command,
    signed,
    steering_text,
    value_text,
)
from sgid.store import write_atomic


def write_report(run_folder: Path, baseline: Result | None) -> Path:
    """Write `report.html` and its pictures (PNG) into a run's folder, from what lies there.

    `baseline` is what `find_baseline` gives: the run with `aug=none` that is the same in all else.
    """
    result = load_result(run_folder)
    examples = read_examples(run_folder)
    pictures = draw_pictures(result, examples, baseline)
    for name, picture in pictures.items():
        write_atomic(Path(run_folder) / f"{name}.png", picture.png)
    finished = result.finished[:16].replace("T", " ")
    page = render(
        "report.html.j2",
        title=f"{aug_text(result.aug)} on {result.choices['dataset']}",
        subtitle=f"{result.choices['backbone']}, seed {result.seed}, finished {finished} UTC",
        **_headline(result, baseline),
        made=_made(result),
        examples=[_shown(example) for example in examples],
        generated=_generated(result),
        **_classes(result, baseline),
        pictures=pictures,
        provenance=_provenance(result),
        command=run_command(result),
        config=json.dumps(result.config, indent=2, ensure_ascii=False),
    )
    path = Path(run_folder) / "report.html"
    write_atomic(path, page.encode())
    return path


def lead_over(result: Result, baseline: Result) -> Estimate:
    """Test top-1 minus the baseline's in percent points, with its chance over the test images.

    Without interval where the two did not keep predictions of the same images.
    """
    ours, theirs = read_correct(result.folder), read_correct(baseline.folder)
    if ours and ours.keys() == theirs.keys():
        return paired_bootstrap(list(ours.values()), [theirs[key] for key in ours])
    difference = result.metrics["test/top1"] - baseline.metrics["test/top1"]
    return Estimate(difference, math.nan, math.nan, 0)


def _headline(result: Result, baseline: Result | None) -> dict[str, Any]:
    metrics = result.metrics
    note = "test top-1"
    if {"test/top1_low", "test/top1_high"} <= metrics.keys():
        low, high = metrics["test/top1_low"], metrics["test/top1_high"]
        note += f", 95 % interval {low:.1f} to {high:.1f} (Wilson, over the test images)"
    shown: dict[str, Any] = {
        "accuracy": f"{metrics['test/top1']:.1f} %",
        "accuracy_note": note,
        "lead": None,
        "lead_note": None,
        "next_command": None,
        "verdict": [],
    }
    if not result.aug:
        shown["verdict"] = ["This run is the baseline: no augmentation but flip and crop."]
    elif baseline is None:
        shown["verdict"] = ["No run with aug=none and all else equal was found. To make it:"]
        shown["next_command"] = run_command(result, aug="none")
    else:
        shown |= _lead(lead_over(result, baseline), baseline)
        arms = f"[none],[{','.join(result.aug)}]"
        shown["next_command"] = run_command(result, aug=arms, seed="0,1,2,3,4", sweep=True)
    return shown


def _lead(lead: Estimate, baseline: Result) -> dict[str, Any]:
    note = f"points against aug=none ({baseline.metrics['test/top1']:.1f} %)"
    verdict = "The two runs' predictions cannot be compared image by image: no test was made."
    if not math.isnan(lead.p):
        note += f", 95 % interval {signed(lead.low, 1)} to {signed(lead.high, 1)}, {p_text(lead.p)}"
        if lead.excludes_zero and lead.p < 0.05:
            verdict = f"This run is {'better' if lead.value > 0 else 'worse'} than the baseline by "
            verdict += "more than the choice of test images explains."
        else:
            verdict = "The choice of test images alone could explain this difference: no lead."
        verdict += f" (Paired bootstrap and McNemar's test over the same {lead.n:,} test images.)"
    caution = (
        "It is one seed, and another seed would change it. What the method is worth is said by "
        "the table that a sweep over seeds prints:"
    )
    return {"lead": signed(lead.value, 1), "lead_note": note, "verdict": [verdict, caution]}


def _made(result: Result) -> list[tuple[str, str]]:
    config, choices = result.config, result.choices
    rows = [(group, str(choices[group])) for group in ("dataset", "backbone") if group in choices]
    rows.append(("augmentation", aug_text(result.aug)))
    if generates(config, result.aug):
        guidance = {k: v for k, v in config["guidance"].items() if not k.startswith("_")}
        rows += [
            ("models", str(choices.get("models", ABSENT))),
            ("guidance", f"{choices.get('guidance', '')} {value_text(guidance)}"),
            ("noise rate (img2img strength)", value_text(config.get("noise_rate"))),
            ("images per original", value_text(config.get("expansion"))),
            ("denoising steps", value_text(config.get("steps"))),
        ]
    for name in result.aug:
        if "prompt" in config["aug"][name]:
            rows.append((f"prompt of {name}", config["aug"][name]["prompt"]))
    return rows + _images(result.protocol)


def _images(protocol: dict[str, Any]) -> list[tuple[str, str]]:
    """How many images each part has, and how it came about."""
    rows = []
    for part in ("train", "validation", "test"):
        if part in protocol:
            origin = protocol.get(f"{part}_from")
            rows.append((f"{part} images", f"{protocol[part]:,}{f', {origin}' if origin else ''}"))
    if protocol.get("shots"):
        rows.append(("shots per class", str(protocol["shots"])))
    if protocol.get("train_test_duplicates"):
        rows.append(("train images also in test", str(protocol["train_test_duplicates"])))
    return rows


def _generated(result: Result) -> list[tuple[str, ...]]:
    return [
        (
            one.method,
            f"{one.images:,}",
            _number(one.cosine, "{:.3f}"),
            _number(one.label_agreement, "{:.1f} %"),
            _number(one.diversity, "{:.3f}"),
        )
        for one in result.generated
    ]


def _classes(result: Result, baseline: Result | None) -> dict[str, Any]:
    theirs = baseline.class_accuracy if baseline else {}
    headers = ["class", "top-1 (%)", *(["none", "difference"] if theirs else [])]
    headers += [f"cosine, {one.method}" for one in result.generated if one.cosine_per_class]
    rows = []
    for name, percent in result.class_accuracy.items():
        others = []
        if theirs:
            other = theirs.get(name)
            change = None if other is None else percent - other
            others += [_number(other, "{:.1f}"), ABSENT if change is None else signed(change, 1)]
        others += [
            _number(one.cosine_per_class.get(name), "{:.3f}")
            for one in result.generated
            if one.cosine_per_class
        ]
        rows.append({"name": name, "percent": percent, "others": others})
    return {"class_headers": headers, "classes": rows}


def _provenance(result: Result) -> list[tuple[str, str]]:
    seconds = [f"{stage} {value:,.0f} s" for stage, value in result.seconds.items()]
    versions = [f"{name} {version}" for name, version in result.versions.items()]
    return [
        ("fingerprint", result.fingerprint),
        ("commit", result.commit or "not in a git checkout"),
        ("time", ", ".join(seconds) or ABSENT),
        ("stores", ", ".join(result.stores) or "none"),
        ("versions", ", ".join(versions) or ABSENT),
    ]


def _shown(example: Example) -> dict[str, Any]:
    from PIL import Image

    side = max(Image.open(io.BytesIO(example.original)).size)
    return {
        "class_name": example.class_name,
        "caption": example.caption,
        "note": steering_text(example),
        "original": image_uri(example.original),
        "images": [image_uri(image) for image in example.images],
        "small": side < 96,
    }


def _number(value: float | None, form: str) -> str:
    return ABSENT if value is None else form.format(value)
