"""Scales of the experiments: bundled images on a CPU, or the paper's sets on GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.paper.grid import Options, Sweep

Changed = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Scale:
    """Options that all grids of a scale share.

    `dataset` and `backbone` are those of the grids that vary something else, `few_shots` and
    `shots` are images per class, `many_seeds` are for the ablation, whose differences are small.
    `compared_...` are those of the grid of other methods, where `compared_options` are more options
    of an arm: how long it learns. `classifier` is the run whose classifier has seen as many real
    images as there are.
    """

    name: str
    options: Options
    dataset: str
    datasets: Sequence[str]
    backbones: Sequence[str]
    backbone: str
    seeds: Sequence[str]
    many_seeds: Sequence[str]
    few_shots: str
    shots: Sequence[str]
    compared_shots: Sequence[str]
    compared_seeds: Sequence[str]
    compared_expansion: str
    compared_options: Mapping[str, Options]
    classifier: Options

    def sweep(
        self, aug: Sequence[str], changed: Changed | None = None, *, classified: bool = False
    ) -> Sweep:
        """Augmentations with one backbone over datasets and seeds, but for what is `changed`."""
        options = {key: [value] for key, value in self.options.items()}
        options |= {"dataset": self.datasets, "backbone": [self.backbone], "seed": self.seeds}
        options |= {**(changed or {})}
        return Sweep({**options, "aug": aug}, classifier=self.classifier if classified else None)


TINY = Scale(
    name="tiny",
    # As in the demo, whose noise rate was chosen on the validation part: see experiments/LOG.md.
    options={"dataset.shots": "20", "noise_rate": "0.7", "steps": "12", "trainer.validations": "2"},
    dataset="fashion",
    datasets=["fashion"],
    backbones=["small_resnet", "small_vit", "small_clip"],
    backbone="small_resnet",
    seeds=["0", "1", "2"],
    many_seeds=["0", "1", "2", "3", "4"],
    few_shots="10",
    shots=["5", "10", "20", "50"],
    compared_shots=["10", "20"],
    compared_seeds=[*map(str, range(10))],
    # Two images of each original add as much as five: see docs/results/tiny/expansion.md.
    compared_expansion="2",
    # Few steps, for two cores: the authors learn for thousands.
    compared_options={
        "[da_fusion]": {"aug.da_fusion.prepare.steps": "50"},
        "[diff_aug]": {"aug.diff_aug.prepare.steps": "400"},
        "[diff_mix]": {"aug.diff_mix.prepare.steps": "400"},
        "[datadream]": {
            "aug.datadream.prepare.epochs": "null",
            "aug.datadream.prepare.steps": "30",
            "aug.datadream.prepare.warmup": "5",
        },
        "[real_fake]": {
            "aug.real_fake.prepare.epochs": "null",
            "aug.real_fake.prepare.steps": "200",
        },
        "[diff_ii]": {"aug.diff_ii.prepare.steps": "50"},
    },
    classifier={"dataset": "fashion", "dataset.shots": "null", "backbone": "small_resnet"},
)

PAPER = Scale(
    name="paper",
    options={"dataset.shots": "null"},
    dataset="cars",
    datasets=["cifar10", "cifar100", "cars", "caltech101", "flowers", "pets", "dtd"],
    backbones=["resnet50", "vit", "clip_vit"],
    backbone="vit",
    seeds=["0", "1", "2"],
    many_seeds=["0", "1", "2"],
    few_shots="10",
    shots=["1", "2", "4", "8", "16"],
    compared_shots=["5", "10"],
    compared_seeds=["0", "1", "2", "3", "4"],
    compared_expansion="5",
    compared_options={},
    classifier={"dataset.shots": "null", "backbone": "vit"},
)

SCALES = {scale.name: scale for scale in (TINY, PAPER)}

NAMES = (
    "main",
    "combination",
    "ablation",
    "noise_guidance",
    "expansion",
    "shots",
    "consistency",
    "plane",
    "methods",
    "case_study",
    "human",
)
