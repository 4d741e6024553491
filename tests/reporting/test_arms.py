"""Arms, their seeds and their baselines; runs of other images are other arms."""

from dataclasses import replace
from inspect import signature
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sgid.data.dataset import SplitProtocol, load_dataset
from sgid.data.sources.folder import folder
from sgid.reporting.arms import (
    PLAIN,
    arm,
    baseline_of_other_images,
    find_baseline,
    find_perturbed,
    flatten,
    image_names,
    is_baseline,
    rows_of,
    varying,
)
from tests.data.writers import write_folder


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


def test_runs_of_other_images_are_not_compared(make_run):
    """Also of the same folder, and the later run of a seed does not replace the earlier."""
    flip_crop = make_run(["flip_crop"], root="photos", same_images="a" * 16)
    ours = make_run(["sgid"], root="photos", same_images="b" * 16)
    runs = [flip_crop, ours, make_run(["flip_crop"], 1, root="photos", same_images="b" * 16)]
    assert find_baseline(ours, runs) is None
    assert baseline_of_other_images(ours, runs) == flip_crop
    later = make_run(["flip_crop"], root="photos", same_images="b" * 16)
    assert find_baseline(ours, [*runs, later]) == later
    assert [list(row) for row in rows_of([flip_crop, later])] == [[flip_crop], [later]]
    moved = make_run(["flip_crop"], root="elsewhere", same_images="b" * 16)
    assert find_baseline(ours, [flip_crop, moved]) == moved
    another = make_run(["flip_crop"], root="another", same_images="c" * 16)
    assert baseline_of_other_images(ours, [another]) is None


@pytest.mark.parametrize(
    ("roots", "digests", "names"),
    [
        (("in/a", "in/b"), "ab", ["a", "b"]),
        (("in/a", "at/a", "in/b"), "abc", ["in/a", "at/a", "in/b"]),
        (("in/a", "in/a"), "ab", ["a (aaaaaaaa)", "a (bbbbbbbb)"]),
        ((None, None), "aa", ["fashion"]),
    ],
)
def test_images_are_named_by_their_folder(make_run, roots, digests, names):
    runs = [
        make_run(seed=seed, root=root, same_images=16 * digest)
        for seed, (root, digest) in enumerate(zip(roots, digests, strict=True))
    ]
    assert list(image_names(runs).values()) == names
    assert varying(runs) == (["dataset.images"] if len(names) > 1 else [])


def test_images_that_follow_from_the_splits_need_no_column(make_run):
    runs = [make_run(same_images=16 * digest) for digest in "ab"]
    for run, share in zip(runs, (0.1, 0.2), strict=True):
        run.config["dataset"]["validation"] = share
    assert varying(runs) == ["dataset.validation"]


def _loaded(root, seed=0, **cuts):
    splits, protocol = folder(root), SplitProtocol(**cuts)
    return load_dataset(
        splits, protocol, name="x", max_bad=0, seed=seed, cache=root.parent / "scans"
    )


@pytest.mark.parametrize("cuts", [{}, {"shots": 3}])
def test_the_images_of_a_run_are_its_pool_validation_and_test(tmp_path, cuts):
    root = tmp_path / "set"
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        write_folder(root / split, {"bag": count, "coat": count}, size=8)
    before = _loaded(root, **cuts)
    assert before.fingerprint == _loaded(root, 1, **cuts).fingerprint
    seen = {before.fingerprint}
    train = root / "train"
    some = sorted((train / "bag").iterdir())

    def relabel():
        some[0].rename(train / "coat" / "other.png")

    def add():
        (train / "bag" / "new.png").write_bytes(
            next((root / "test" / "bag").iterdir()).read_bytes()
        )

    for change in (relabel, some[1].unlink, add):
        change()
        after = _loaded(root, **cuts)
        assert [after.validation.digest(), after.test.digest()] == [
            before.validation.digest(),
            before.test.digest(),
        ]
        assert after.fingerprint not in seen, change
        seen.add(after.fingerprint)


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


@pytest.mark.parametrize(("mode", "same"), [("low", True), ("lowest", False)])
def test_less_memory_for_the_same_images_is_the_same_arm(make_run, mode, same):
    run = make_run(aug=["sgid"])
    models = run.config["models"]
    generator = {**models["generator"], "memory": mode}
    config = {**run.config, "models": {**models, "generator": generator}}
    assert (arm(config, run.aug) == arm(run.config, run.aug)) is same


def test_the_plain_flip_crop_is_what_lies_beneath_the_others():
    from sgid.training.transforms import flip_crop

    parameters = signature(flip_crop).parameters
    defaults = {name: parameters[name].default for name in PLAIN}
    assert {**defaults, "area": list(defaults["area"])} == PLAIN
    file = OmegaConf.load(Path(__file__).parents[2] / "conf" / "aug" / "flip_crop.yaml")
    transform = OmegaConf.to_container(file.flip_crop.transform)
    assert {k: v for k, v in transform.items() if not k.startswith("_")} == PLAIN
