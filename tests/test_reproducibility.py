import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgid import reproducibility
from sgid.reproducibility import fingerprint

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(-1e9, 1e9)
SPECS = st.dictionaries(st.text(max_size=5), LEAVES | st.lists(LEAVES, max_size=3), max_size=6)


def test_known_values():
    # Folders on disk bear these names: a change here would orphan every one of them.
    assert fingerprint({}) == "44136fa355b3678a"
    assert fingerprint({"b": [1, 0.5, None], "a": "é", "c": True}) == "a984a65d43be8d4a"


@given(SPECS, st.randoms())
def test_the_order_of_keys_does_not_matter(spec, random):
    items = list(spec.items())
    random.shuffle(items)
    assert fingerprint(dict(items)) == fingerprint(spec)


@given(SPECS)
def test_every_key_counts(spec):
    for key in spec:
        assert fingerprint({k: v for k, v in spec.items() if k != key}) != fingerprint(spec)
        assert fingerprint({**spec, key: [spec[key]]}) != fingerprint(spec)


def test_the_order_of_lists_does_matter():
    assert fingerprint([1, 2]) != fingerprint([2, 1])


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", 1j])
def test_what_json_cannot_say(value):
    with pytest.raises(TypeError):
        fingerprint({"a": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(value):
    with pytest.raises(ValueError):
        fingerprint({"a": value})


def test_the_commit_is_not_of_a_repository_that_holds_the_environment(tmp_path):
    """A wheel in `.venv` of another project says nothing of that project."""
    package = tmp_path / ".venv" / "sgid"
    package.mkdir(parents=True)
    shutil.copy(reproducibility.__file__, package)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *words], check=True)
    code = "import reproducibility; print(reproducibility.commit())"
    line = [sys.executable, "-c", code]
    said = subprocess.run(line, cwd=package, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "None"
    subprocess.run([*git, "add", "-f", ".venv/sgid/reproducibility.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "its own"], check=True)
    said = subprocess.run(line, cwd=package, capture_output=True, text=True, check=True).stdout
    assert len(said.strip()) == 40
