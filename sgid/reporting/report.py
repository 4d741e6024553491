"""The report of a finished run: `report.html` with its figures, and the table in the terminal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console

from sgid.evaluation.statistics import Estimate, paired_bootstrap
from sgid.reporting.arms import (
    BASELINE,
    baseline_of_other_images,
    entry,
    find_baseline,
    generates,
    is_baseline,
    limits_of,
)
from sgid.reporting.comparison import comparison_table
from sgid.reporting.figures import draw_pictures
from sgid.reporting.format import (
    ABSENT,
    aug_text,
    call_text,
    p_text,
    run_command,
    signed,
    steering_text,
    value_text,
)
from sgid.reporting.html import classifier_text, image_uri, render, shown_pairs, small
from sgid.reporting.image_metrics import ORIGINALS, measure_rows, notes
from sgid.reporting.results import (
    Example,
    Filtered,
    Result,
    load_result,
    load_results,
    read_correct,
    read_examples,
    read_pairs,
)
from sgid.runtime.files import write_atomic


def write_report(run_folder: Path, baseline: Result | None, other: Result | None = None) -> Path:
    """Write `report.html` and its pictures (PNG) into a run's folder, from its files.

    `baseline` is the run that `find_baseline` gives; where there is none, `other` is the one of
    `baseline_of_other_images`, which is named and not compared.
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
        **_headline(result, baseline, other),
        limits=limits_of([result]),
        settings=run_settings(result),
        remarks=result.protocol.get("remarks", ()),
        examples=[_example(example) for example in examples],
        show_command=f"{run_command(result, stage='data')} dataset.show=KEY",
        **_generated(result),
        **_classes(result, baseline),
        pictures=pictures,
        provenance=provenance(result),
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


def _headline(result: Result, baseline: Result | None, other: Result | None) -> dict[str, Any]:
    metrics = result.metrics
    note = "test top-1"
    if {"test/top1_low", "test/top1_high"} <= metrics.keys():
        low, high = metrics["test/top1_low"], metrics["test/top1_high"]
        note += f", 95 % interval {low:.1f} to {high:.1f} (Wilson, over the test images)"
    page: dict[str, Any] = {
        "accuracy": f"{metrics['test/top1']:.1f} %",
        "accuracy_note": note,
        "lead": None,
        "lead_note": None,
        "next_command": None,
        "verdict": [],
    }
    if is_baseline(result):
        page["verdict"] = ["This run is the baseline: no augmentation but flip and crop."]
    elif baseline is None:
        verdict = [f"No run with aug={BASELINE} and all else equal was found. To make it:"]
        page["verdict"] = [other_images(result, other), *verdict] if other else verdict
        page["next_command"] = run_command(result, aug=BASELINE)
    else:
        page |= _lead(lead_over(result, baseline), baseline)
        arms = f"[{BASELINE}],[{','.join(result.aug)}]"
        page["next_command"] = run_command(result, aug=arms, seed="0,1,2,3,4", sweep=True)
    return page


def _lead(lead: Estimate, baseline: Result) -> dict[str, Any]:
    note = f"points against aug={BASELINE} ({baseline.metrics['test/top1']:.1f} %)"
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
    same = f"Both runs have the same images (fingerprint {_images_id(baseline)}): the pool that "
    same += "training images are drawn from, validation and test."
    return {"lead": signed(lead.value, 1), "lead_note": note, "verdict": [verdict, same, caution]}


def other_images(result: Result, other: Result) -> str:
    """A sentence on a run that would be the baseline, had it had the images of `result`."""
    return (
        f"The run {other.fingerprint} with aug={BASELINE} is not compared with this one: its "
        f"images were others (fingerprint {_images_id(other)}, here {_images_id(result)}). Images "
        "were added, removed, changed or relabelled since."
    )


def _images_id(result: Result) -> str:
    return str(result.config["dataset"].get("images"))[:8]


def _generated(result: Result) -> dict[str, Any]:
    generated = result.generated
    columns, explained, classifier = {one.method: one.measures for one in generated}, [], None
    rows = [{"title": "images", "note": "", "texts": [f"{one.images:,}" for one in generated]}]
    if filtered := any(one.filter for one in generated):
        texts = [_kept(one.filter) for one in generated]
        rows.append({"title": "kept by the filter", "note": "", "texts": texts})
    if generated:
        first = generated[0]
        columns[ORIGINALS] = first.originals
        for row, text in zip(rows, (f"{first.counts['originals']:,}", ABSENT), strict=False):
            row["texts"].append(text)
        rows += measure_rows(columns)
        explained, classifier = (
            notes(first.counts, first.leakage),
            classifier_text(first.classifier),
        )
    return {
        "measure_headers": list(columns),
        "measures": rows if generated else [],
        "measure_notes": explained,
        "classifier": classifier,
        "filtered": filtered,
        "pairs": shown_pairs(read_pairs(result.folder)),
    }


def _kept(filtered: Filtered | None) -> str:
    if filtered is None:
        return "all"
    count = filtered.kept + filtered.dropped
    return f"{filtered.kept:,} of {count:,} ({100 * filtered.kept / count:.0f} %), {filtered.name}"


def _classes(result: Result, baseline: Result | None) -> dict[str, Any]:
    theirs = baseline.class_accuracy if baseline else {}
    headers = ["class", "top-1 (%)", *([BASELINE, "difference"] if theirs else [])]
    headers += [f"cosine, {one.method}" for one in result.generated if one.cosine_per_class]
    headers += [f"dropped, {one.method}" for one in result.generated if one.filter]
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
        others += [
            f"{one.filter.dropped_per_class.get(name, 0):,}"
            for one in result.generated
            if one.filter
        ]
        rows.append({"name": name, "percent": percent, "others": others})
    return {"class_headers": headers, "classes": rows}


def _example(example: Example) -> dict[str, Any]:
    return {
        "key": example.key,
        "class_name": example.class_name,
        "caption": example.caption,
        "note": steering_text(example),
        "original": image_uri(example.original),
        "images": [
            {"uri": image_uri(image), "kept": kept}
            for image, kept in zip(example.images, example.kept, strict=True)
        ],
        "small": small(example.original),
    }


def _number(value: float | None, form: str) -> str:
    return ABSENT if value is None else form.format(value)


def run_settings(result: Result) -> list[tuple[str, str]]:
    """Choices, method settings and images of a run, without those that it did not use."""
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
    rows.append(("images", images_text(result)))
    return rows + _images(result.protocol)


def images_text(result: Result) -> str:
    """`photos/birds, fingerprint 1a2b3c4d`: where the images of a run lie, and which they are."""
    data = result.config["dataset"]
    return f"{data.get('root') or data['name']}, fingerprint {_images_id(result)}"


def _method(name: str, method: dict[str, Any]) -> list[tuple[str, str]]:
    """Settings of one augmentation."""
    rows = []
    if "transform" in method:
        rows.append((f"transform of {name}", call_text(method["transform"])))
    if "prompt" in method:
        rows.append((f"prompt of {name}", _prompt(method["prompt"])))
    if "{caption}" in str(method.get("prompt", "")) and "caption" in method:
        rows.append((f"caption of {name}", f"{method['caption']} of the candidates"))
    if method.get("from_image"):
        strength = method["strength"]
        called = isinstance(strength, dict) and "_target_" in strength
        strength = call_text(strength) if called else value_text(strength)
        rows.append((f"noise rate of {name}", f"{strength} (img2img strength)"))
    if "guidance" in method:
        rows.append((f"guidance of {name}", call_text(method["guidance"])))
    return rows


def _prompt(pool: str | list[str] | dict[str, Any]) -> str:
    """A template, or the first of several; the call that gives them."""
    if isinstance(pool, dict):
        return call_text(pool)
    if isinstance(pool, str):
        return pool or "no text"
    return pool[0] if len(pool) == 1 else f"{pool[0]} (one of {len(pool)})"


def _images(protocol: dict[str, Any]) -> list[tuple[str, str]]:
    """Number and origin of the images of each split."""
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
    }
    rows += [(term, value_text(protocol[key])) for key, term in used.items() if protocol.get(key)]
    return rows


def provenance(result: Result) -> list[tuple[str, str]]:
    """Fingerprint, commit, time, stores and versions of a run."""
    seconds = [f"{stage} {value:,.0f} s" for stage, value in result.seconds.items()]
    versions = [f"{name} {version}" for name, version in result.versions.items()]
    return [
        ("fingerprint", result.fingerprint),
        ("commit", result.commit or "not in a git checkout"),
        ("time", ", ".join(seconds) or ABSENT),
        ("stores", ", ".join(result.stores) or "none"),
        ("versions", ", ".join(versions) or ABSENT),
    ]


def report(folder: Path, results: Path, console: Console) -> None:
    """Write `report.html` of the run in `folder`; print it together with its baseline."""
    result, finished = load_result(folder), load_results(results)
    baseline, other = find_baseline(result, finished), None
    if baseline is None and not is_baseline(result):
        other = baseline_of_other_images(result, finished)
    page = write_report(folder, baseline, other)
    comparison_table([result] if baseline is None else [baseline, result], "This run").print(
        console
    )
    if other:
        console.print(other_images(result, other), style="yellow", highlight=False, markup=False)
    console.print(f"report: {page}", highlight=False, markup=False)
