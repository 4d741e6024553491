"""Result folders as finished runs leave them, small but with real images and predictions."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sgid.reporting.results import Result, load_result
from sgid.reproducibility import CODE, fingerprint

CLASSES = ("T-shirt/top", "sneaker", "<script>alert(1)</script>", "ankle boot & $x_1$")
AUGS: dict[str, dict[str, Any]] = {
    "none": {
        "slot": "base",
        "transform": {"_target_": "sgid.training.transforms.as_is", "_partial_": True},
    },
    "flip_crop": {
        "slot": "base",
        "transform": {
            "_target_": "sgid.training.transforms.flip_crop",
            "_partial_": True,
            "padding": 0.125,
            "area": [0.25, 1.0],
            "flip": 0.5,
        },
    },
    "randaugment": {"slot": "online", "transform": {"num_ops": 2, "magnitude": 9}},
    "mixup": {"slot": "batch", "transform": {"alpha": 0.2}},
    "sgid": {
        "slot": "offline",
        "prompt": "a photo of a {label}, {caption}",
        "caption": "best",
        "from_image": True,
        "strength": None,
        "guidance": {"_target_": "sgid.methods.guidance.linear", "min": 3.0, "max": 7.5},
    },
    "text2img_label": {
        "slot": "offline",
        "prompt": "a photo of a {label}",
        "from_image": False,
        "strength": 1.0,
        "guidance": {"_target_": "sgid.methods.guidance.fixed", "scale": 7.5},
    },
}

MakeRun = Callable[..., Result]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run(["sgid"], seed=1, noise_rate=0.7)` writes a result folder and reads it back."""

    def make(
        aug: Sequence[str] = ("sgid",),
        seed: int = 0,
        *,
        skill: float = 0.7,
        classes: Sequence[str] = CLASSES,
        images: int = 400,
        side: int = 32,
        dataset: str = "fashion",
        backbone: str = "small_resnet",
        noise_rate: float = 0.5,
        shots: int = 10,
        flip: float = 0.5,
        filtered: bool = False,
        root: str | None = None,
        same_images: str = "1a2b3c4d5e6f7890",
        protocol: dict[str, Any] | None = None,
        folder: Path | None = None,
    ) -> Result:
        offline = [name for name in aug if AUGS[name].get("slot") == "offline"]
        config = {
            "stage": "all",
            "seed": seed,
            "noise_rate": noise_rate,
            "expansion": 5,
            "steps": 20,
            "mix": {"how": "concatenate", "probability": 0.5},
            "store": {"shard_size": 256, "format": "png"},
            "trainer": {"device": "cpu", "precision": "32-true", "workers": 0},
            "paths": {"results": str(tmp_path / "results"), "artifacts": "artifacts"},
            "logger": {},
            "dataset": {
                "name": dataset,
                "shots": shots,
                "root": root,
                "images": same_images,
            },
            "models": {
                "name": "tiny",
                "knows": "clothing",
                "known": ["fashion"],
                "seen": ["photos"],
            },
            "guidance": {"_target_": "sgid.methods.guidance.linear", "min": 3.0, "max": 7.5},
            "filter": {"_target_": "sgid.evaluation.filters.label"} if filtered else {},
            "backbone": {
                "name": backbone,
                "optimizer": {"lr": {"small_resnet": 0.05}.get(backbone, 1e-4)},
                "steps": 400,
            },
            "aug": {
                name: {**AUGS[name], **({"strength": noise_rate} if name == "sgid" else {})}
                if name != "flip_crop"
                else {**AUGS[name], "transform": {**AUGS[name]["transform"], "flip": flip}}
                for name in aug
            },
        }
        mark = fingerprint(config)
        folder = folder or tmp_path / "results" / mark
        folder.mkdir(parents=True)

        # The same test images are hard in every run: what makes pairing worth it.
        hardness = np.random.default_rng(99).random(images)
        noise = np.random.default_rng([seed, *aug[0].encode()]).normal(0, 0.05, images)
        correct = hardness + noise < skill
        labels = np.arange(images) % len(classes)
        predictions = np.where(correct, labels, (labels + 1) % len(classes))
        columns = {
            "key": [f"test/{index:05d}" for index in range(images)],
            "label": labels.tolist(),
            "prediction": predictions.tolist(),
        }
        pq.write_table(pa.table(columns), folder / "predictions.parquet")

        top1 = 100 * float(correct.mean())
        per_class = {
            f"test/top1/{name}": 100 * float(correct[labels == index].mean())
            for index, name in enumerate(classes)
        }
        raw = {
            "fingerprint": mark,
            "code": CODE,
            "choices": {
                "dataset": dataset,
                "backbone": backbone,
                "models": "tiny",
                "guidance": "linear",
                "filter": "label" if filtered else "none",
                "aug": list(aug),
            },
            "seed": seed,
            "config": config,
            "protocol": {
                "name": dataset,
                "train": 40,
                "train_per_class": [shots, shots],
                "train_drawn_from": 4500,
                "fraction": None,
                "imbalance": None,
                "train_from": "the source's own train split",
                "shots": shots,
                "seed": seed,
                "validation": 20,
                "test": images,
                "test_from": "the source's own split",
                "validation_from": "0.1 of each class of train, held out with seed 0",
                **(protocol or {}),
            },
            "metrics": {
                "test/top1": top1,
                "test/top1_low": top1 - 4.1,
                "test/top1_high": top1 + 3.9,
                "validation/top1": top1 + 1,
                **per_class,
            },
            "generated": [_generated(name, classes, filtered) for name in offline],
            "overrides": [f"aug=[{','.join(aug)}]", f"seed={seed}", f"noise_rate={noise_rate}"],
            "seconds": {"augment": 12.3, "train": 60.1, "evaluate": 2.0},
            "stores": [f"artifacts/generated/{name}" for name in offline],
            "versions": {"torch": "2.15.0", "sgid": "0.1"},
            "commit": None,
            "finished": f"2026-11-22T12:{len(list(folder.parent.iterdir())):02d}:00",
        }
        (folder / "result.json").write_text(json.dumps(raw))
        steps = "".join(
            f"{step},{2.3 * 0.99**step:.3f},{'' if step % 40 else 30 + step / 10}\n"
            for step in range(0, 401, 10)
        )
        (folder / "curves.csv").write_text("step,train/loss,validation/top1\n" + steps)
        if offline:
            rows = [
                _example(name, index, classes, side, filtered)
                for name in offline
                for index in range(6)
            ]
            pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")
        return load_result(folder)

    return make


def _generated(method: str, classes: Sequence[str], filtered: bool) -> dict[str, Any]:
    rng = np.random.default_rng(len(method))
    histograms = {}
    for name, values in {
        "similarity": rng.normal(0.7, 0.05, 500),
        "guidance_scale": rng.uniform(3, 7.5, 500),
    }.items():
        counts, edges = np.histogram(values, bins=20)
        histograms[name] = {"counts": counts.tolist(), "edges": edges.tolist()}
    return {
        "method": method,
        "path": f"artifacts/generated/{method}",
        "images": 500,
        "histograms": histograms,
        "measures": {"cosine": 0.81, "label_agreement": 88.2, "diversity": 0.21},
        "originals": {"cosine": 1.0},
        "counts": {"images": 500, "originals": 40, "held_out": 20, "test": 400, "at_most": 20_000},
        "leakage": {"limit": 0.1, "share": 0.05, "nearest": []},
        "cosine_per_class": {name: 0.7 + 0.2 * rng.random() for name in classes},
        "filter": _filter(classes) if filtered else None,
    }


def _filter(classes: Sequence[str]) -> dict[str, Any]:
    dropped = {name: 5 * index for index, name in enumerate(classes) if index}
    count = sum(dropped.values())
    return {
        "name": "label",
        "kept": 500 - count,
        "dropped": count,
        "dropped_per_class": dropped,
    }


def _example(
    method: str, index: int, classes: Sequence[str], side: int, filtered: bool
) -> dict[str, Any]:
    rng = np.random.default_rng(index)
    base = rng.integers(0, 255, (4, 4, 3))

    def png() -> bytes:
        pixels = np.clip(base + rng.integers(-40, 40, (4, 4, 3)), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "PNG")
        return buffer.getvalue()

    name = classes[index % len(classes)]
    caption = "a very bright shirt <b>with</b> long sleeves & a $5 collar, plain, on a white table"
    return {
        "method": method,
        "key": f"train/{index:05d}",
        "class_name": name,
        "caption": caption,
        "similarity": 0.6 + 0.03 * index,
        "prompt": f"a photo of a {name}, {caption}",
        "guidance_scale": 3.0 + index / 2,
        "strength": 0.5,
        "original": png(),
        "images": [png() for _ in range(5)],
        "kept": [not filtered or repeat != 1 for repeat in range(5)],
    }
