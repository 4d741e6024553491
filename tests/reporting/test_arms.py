"""Which runs are seeds of one arm, and which run is whose baseline."""

from dataclasses import replace
from inspect import signature
from pathlib import Path

from omegaconf import OmegaConf

from sgid.reporting.arms import (
    PLAIN,
    arm,
    find_baseline,
    find_perturbed,
    flatten,
    is_baseline,
    varying,
)


def test_flatten():
    assert flatten({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None}) == {
        "a.b.c": 1,
        "a.d": [1, 2],
        "e": None,
    }


def test_seeds_share_an_arm_and_knobs_do_not(make_run):
    runs = [make_run(seed=0), make_run(seed=1), make_run(seed=0, noise_rate=0.7)]
    first, second, other = (arm(run.config, run.aug) for run in runs)
    assert first == second != other


def test_baseline_is_all_else_equal(make_run):
    flip_crop = make_run(["flip_crop"], seed=0)
    others = [
        make_run(["flip_crop"], seed=1),
        make_run(["flip_crop"], seed=0, shots=16),
        make_run(["flip_crop"], seed=0, backbone="vit"),
        make_run(["randaugment"], seed=0),
        make_run(["none"], seed=0),
    ]
    ours = make_run(["sgid"], seed=0)
    assert find_baseline(ours, [flip_crop, *others]) == flip_crop
    assert find_baseline(ours, others) is None
    assert find_baseline(flip_crop, [flip_crop, *others]) is None


def test_what_has_another_base_is_measured_against_flip_crop_too(make_run):
    flip_crop, none = make_run(["flip_crop"]), make_run(["none"])
    runs = [flip_crop, none, make_run(["none", "sgid"])]
    assert find_baseline(none, runs) == flip_crop
    assert find_baseline(runs[2], runs) == flip_crop
    assert find_perturbed(runs[2], runs) == none


def test_a_changed_flip_crop_is_an_arm_and_no_baseline(make_run):
    plain, changed = make_run(["flip_crop"]), make_run(["flip_crop"], flip=0.0)
    ours = make_run(["sgid"])
    assert find_baseline(ours, [plain, changed]) == plain
    assert find_baseline(ours, [changed]) is None
    assert find_baseline(changed, [plain, changed]) == plain
    assert varying([plain, changed, ours]) == ["aug.flip_crop.transform.flip"]
    # an entry that says nothing is the plain one, as is one that spells the defaults out
    bare = replace(plain, config={**plain.config, "aug": {"flip_crop": {}}})
    assert is_baseline(bare) and arm(bare.config, bare.aug) == arm(plain.config, plain.aug)
    assert find_baseline(ours, [bare]) == bare


def test_what_only_generation_reads_does_not_part_a_run_from_its_baseline(make_run):
    flip_crop = make_run(["flip_crop"])
    ours = make_run(["sgid"], noise_rate=0.9, filtered=True)
    assert find_baseline(ours, [flip_crop]) == flip_crop


def test_the_perturbation_alone(make_run):
    alone, mixed = make_run(["randaugment"]), make_run(["mixup"])
    both = make_run(["sgid", "randaugment"])
    assert find_perturbed(both, [alone, mixed, both]) == alone
    assert find_perturbed(both, [mixed]) is None
    assert find_perturbed(alone, [alone]) is None
    assert find_perturbed(make_run(["sgid"]), [alone]) is None


def test_varying_knows_what_the_choices_account_for(make_run):
    # another backbone comes with another learning rate: not worth a column of its own
    assert varying([make_run(), make_run(backbone="vit")]) == []
    # aug.sgid.strength repeats noise_rate; a run that generates nothing has neither
    runs = [make_run(["flip_crop"]), make_run(seed=1), make_run(noise_rate=0.7)]
    assert varying(runs) == ["noise_rate"]


def test_an_unfair_comparison_shows(make_run):
    runs = [make_run(["flip_crop"], shots=5), make_run(["sgid"], shots=10)]
    assert varying(runs) == ["dataset.shots"]


def test_a_setting_that_only_some_have_shows(make_run):
    first = make_run()
    weights = {**first.config["backbone"], "weights": {"id": "in21k"}}
    second = replace(first, config={**first.config, "backbone": weights})
    assert varying([first, second]) == ["backbone.weights.id"]


def test_null_is_what_older_results_do_not_have(make_run):
    old = make_run()
    new = {**old.config, "dataset": {**old.config["dataset"], "imbalance": None}}
    assert arm(new, old.aug) == arm(old.config, old.aug)
    assert varying([old, replace(old, config=new)]) == []


def test_the_plain_flip_crop_is_what_lies_beneath_the_others():
    from sgid.training.transforms import flip_crop

    parameters = signature(flip_crop).parameters
    defaults = {name: parameters[name].default for name in PLAIN}
    assert {**defaults, "area": list(defaults["area"])} == PLAIN
    file = OmegaConf.load(Path(__file__).parents[2] / "conf" / "aug" / "flip_crop.yaml")
    transform = OmegaConf.to_container(file.flip_crop.transform)
    assert {k: v for k, v in transform.items() if not k.startswith("_")} == PLAIN
