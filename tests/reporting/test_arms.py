"""Which runs are seeds of one arm, and which run is whose baseline."""

from sgid.reporting.arms import arm, find_baseline, find_perturbed, flatten, varying


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
    none = make_run(["none"], seed=0)
    others = [
        make_run(["none"], seed=1),
        make_run(["none"], seed=0, shots=16),
        make_run(["none"], seed=0, backbone="vit"),
        make_run(["randaugment"], seed=0),
    ]
    ours = make_run(["sgid"], seed=0)
    assert find_baseline(ours, [none, *others]) == none
    assert find_baseline(ours, others) is None
    assert find_baseline(none, [none, *others]) is None


def test_what_only_generation_reads_does_not_part_a_run_from_its_baseline(make_run):
    none, ours = make_run(["none"]), make_run(["sgid"], noise_rate=0.9)
    assert find_baseline(ours, [none]) == none


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
    runs = [make_run(["none"]), make_run(seed=1), make_run(noise_rate=0.7)]
    assert varying(runs) == ["noise_rate"]


def test_an_unfair_comparison_shows(make_run):
    assert varying([make_run(["none"], shots=5), make_run(["sgid"], shots=10)]) == ["dataset.shots"]
