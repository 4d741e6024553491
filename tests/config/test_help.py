"""`--help` lists what there is; a mistyped name is answered with the nearest right one."""

import resource
import subprocess
import sys

import pytest

from sgid.config.compose import CONF
from sgid.config.help import explain, help_text, nearest, option_names, own_folders


def test_help_comes_at_once():
    """Processor seconds, which do not depend on what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(CONF.parent / "run.py"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    for library in ("torch", "diffusers", "transformers", "hydra", "numpy"):
        assert f"| {library}\n" not in done.stderr
    assert done.stdout.strip() == help_text(CONF).strip()


def test_help_lists_every_choice_and_option_with_its_line():
    text = help_text(CONF)
    for file in CONF.glob("*/*.yaml"):
        group = text[text.index(f"\n{file.parent.name}=\n") :]
        (line, *_) = (line for line in group.splitlines() if line.startswith(f"  {file.stem} "))
        assert len(line.split(maxsplit=1)[1]) > 10, f"{file} begins with no comment that says what"
    for option in ("stage", "noise_rate", "expansion", "steps", "shard_size", "device", "results"):
        assert f" {option}: " in text
    assert "python run.py dataset=cars backbone=vit aug=sgid" in text


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("nois_rate", ["noise_rate"]),
        ("shots", ["dataset.shots"]),
        ("lr", ["backbone.optimizer.lr"]),
        ("guidance.maxx", ["guidance.max"]),
        ("dataset.shotz", ["dataset.shots"]),
        ("datast.shots", ["dataset.shots"]),
        ("models.generator.batchsize", ["models.generator.batch_size"]),
        ("guidence", ["guidance", "aug.gif.guidance"]),
        ("xyzzy", []),
        ("trainer.xyzzy", []),
    ],
)
def test_nearest(typed, near):
    assert nearest(typed, list(option_names(CONF))) == near


def _choices(group: str) -> str:
    return ", ".join(sorted(file.stem for file in (CONF / group).glob("*.yaml")))


@pytest.mark.parametrize(
    ("hydra", "said"),
    [
        ("Could not override 'nois_rate'.", "nois_rate is not an option, did you mean noise_rate?"),
        ("In 'config': Could not find 'dataset/carz'\n\nAvailable", "dataset=carz: there is no "
         "such dataset, did you mean cars?; one of " + _choices("dataset")),
        ("Could not load 'guidance/xyz'", "guidance=xyz: there is no such guidance; one of "
         + _choices("guidance")),
        ("Could not override 'dataset.source.id'.", "dataset.source.id is an option of "
         "dataset=hub only, which is not chosen here"),
        ("Could not override 'store.xyzzy'.", "store.xyzzy is not an option; there are "
         "store.format, store.path, store.shard_size, store.size, store.verify"),
        ("Could not override 'xyzzy'.", "xyzzy is not an option; see --help"),
        ("Error merging override seed=a\nValue 'a' of type 'str' could not be converted to "
         "Integer\n    full_key: seed\n    object_type=Config",
         "seed=a\nValue 'a' of type 'str' could not be converted to Integer"),
    ],
)  # fmt: skip
def test_hydras_words_in_the_users(hydra, said):
    assert explain(CONF, hydra) == said


def test_choices_of_a_folder_of_ones_own(tmp_path):
    (tmp_path / "aug").mkdir()
    text = "# A drawing\nsketch: {slot: offline, depth: 1}\n"
    (tmp_path / "aug" / "sketch.yaml").write_text(text)
    for words in (["--config-dir", str(tmp_path)], [f"hydra.searchpath=[{tmp_path}]"]):
        assert own_folders(words) == [tmp_path]
    assert own_folders([]) == []
    assert "  sketch            A drawing" in help_text(CONF, tmp_path)
    assert "did you mean sketch?" in explain(CONF, "Could not find 'aug/sketc'", tmp_path)
    said = explain(CONF, "Could not override 'aug.sketch.dept'.", tmp_path)
    assert said == "aug.sketch.dept is not an option, did you mean aug.sketch.depth?"
