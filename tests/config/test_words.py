"""Options have the value that was typed, or the message says how to write it."""

import os
import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from sgid.config.compose import CONF, compose
from sgid.config.help import check_mappings, explain_yaml
from sgid.config.words import repeated, typed
from sgid.errors import message

PLACES = ("dataset.root", "models.scorer.weights.path", "evaluation.images", "hydra.run.dir")
VALUES = (
    *("~/photos", "/a/Gärten", "写真", "#1", "a&b", "1e3", "a b", "x,y", "007", "true", "a=b"),
    *("[old]/p", "{x}", "C:\\Users\\me\\", 'a"b', "it's", 'a\\"b', "(1)", "%20", "*.jpg", "@eaDir"),
    *(" lead", "trail ", "a;b", "1_000", "inf", "a:b", "$HOME", "\\", "null.d", ""),
)


def value(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("option", PLACES)
def test_a_path_arrives_as_it_was_typed(option):
    for given in VALUES:
        assert value(typed([f"{option}={given}"], CONF)[0]) == os.path.expanduser(given)


def test_texts_and_ids_too_and_the_rest_is_hydras():
    assert value(typed(["dataset.noun=~, 1e3"], CONF)[0]) == "~, 1e3"
    assert value(typed(["dataset.root=null"], CONF)[0]) is None
    for word in ("seed=1e3", 'dataset.root="a b"', "dataset.root=${paths.data}/x", "aug=[sgid]"):
        assert typed([word], CONF) == [word]


def test_the_values_of_a_sweep_are_quoted_each():
    words = ["-m", "dataset.root=a#1,b c,glob(*)", "dataset.root=choice(a,b)"]
    assert typed(words, CONF)[1:] == ['dataset.root="a#1",b c,"glob(*)"', words[2]]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("+nois_rate=0.3", "nois_rate is not an option, did you mean noise_rate"),
        ("++trainer.devise=cpu", "did you mean trainer.device"),
        ("+models.generator.weights.pth=x", "did you mean models.generator.weights.path"),
        ("+x=1", "x is not an option"),
    ],
)
def test_what_nothing_reads_is_told_as_any_mistyped_option(word, said):
    with pytest.raises(ValueError, match=said):
        compose([word])


@pytest.mark.parametrize("word", ["++seed=3", "+backbone.model.drop_path_rate=0.1"])
def test_what_may_be_added_is(word):
    assert typed([word], CONF) == [word]


def weights(*options: str):
    return compose(options).models.generator.weights


def test_weights_that_are_named_take_the_place_of_the_default():
    named = weights("models=tiny", "models.generator.weights.id=a/b")
    assert (named.id, named.path, named.revision) == ("a/b", None, None)
    named = weights("models=sd15", "models.generator.weights.path=~/x")
    assert (named.id, named.path) == (None, os.path.expanduser("~/x"))
    named = weights("models=sd15", "models.generator.weights.id=a/b")
    assert (named.id, named.revision) == ("a/b", None)  # which was the other one's
    assert weights("models=sd15", "models.generator.weights.revision=x").id is not None


def test_an_option_that_is_given_twice_is_told():
    assert repeated(["seed=1", "-m", "seed=2", "steps=3", "steps=3"]) == [
        "seed is given twice: seed=2 counts, not seed=1"
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["aug.sgid.prompt=a {label}, b"], "'aug.sgid.prompt=\"a {label}, b\"'"),
        (["dataset.source.root=a#1"], "'dataset.source.root=\"a#1\"'"),
        (["seed=0,", "1,", "2"], "A list has no spaces"),
        (["dataset.name=${HOME}"], "${oc.env:HOME}"),
    ],
)
def test_the_own_word_comes_back_quoted(words, said, monkeypatch):
    monkeypatch.setattr("sys.argv", ["run.py", *words])
    with pytest.raises(Exception) as caught:  # noqa: PT011 (Hydra's or OmegaConf's)
        compose(words)
    assert said in str(message(caught.value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"m:\n\tslot: base\n", "m.yaml, line 2, column 1: .* not with tabs"),
        (b"m: [1, 2\n", "line 2, .* needs quotes"),
        (b"m:\n  slot: base\n slot: x\n", "line 3, .* stand below each other"),
        (b"m:\n  a: 1\n  a: 2\n", "line 3, .*duplicate key a"),
        (b"m:\n  p: {label}, {caption}\n", "line 2, .* needs quotes"),
        (b"m:\n  x: @foo\n", "put the text in quotes"),
        (b"m: caf\xe9\n", "is not UTF-8"),
        (b"m: *a\n", "undefined alias"),
    ],
)
def test_mistakes_of_syntax_have_a_file_and_a_line(text, said, tmp_path):
    (tmp_path / "aug").mkdir()
    (tmp_path / "aug" / "fine.yaml").write_text("a: 1")
    assert explain_yaml(tmp_path) is None
    (tmp_path / "aug" / "m.yaml").write_bytes(text)
    assert re.search(said, explain_yaml(tmp_path) or "")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n"])
def test_a_file_without_options(text, tmp_path):
    (tmp_path / "aug").mkdir()
    (tmp_path / "aug" / "m.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"m.yaml: holds a .* lines of option: value"):
        check_mappings(tmp_path)


def test_a_store_is_given_by_the_name_of_its_section():
    assert typed(["store=a, b"], CONF) == ['store.path="a, b"']
    assert compose(["store=artifacts/x", "store.shard_size=3"]).store.path == "artifacts/x"
