import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgid.methods.prompts import fields, render


def test_render():
    text = render("a photo of a {label}, {caption}", label="Audi", caption="a red car")
    assert text == "a photo of a Audi, a red car"


@pytest.mark.parametrize(
    ("template", "used"),
    [("plain", set()), ("{label}", {"label"}), ("{caption}:{label}{label}", {"label", "caption"})],
)
def test_fields(template, used):
    assert fields(template) == used


@given(st.text(), st.text())
def test_what_is_filled_in_is_never_parsed(label, caption):
    assert render("<{label}|{caption}>", label=label, caption=caption) == f"<{label}|{caption}>"


@pytest.mark.parametrize("label", ["{caption}", "{label}", "{0}", "{", "}}", "{label.__class__}"])
def test_braces_in_class_names(label):
    assert render("a {label}, {caption}", label=label, caption="c") == f"a {label}, c"


def test_braces_in_the_template_itself():
    assert render("{{{label}}}", label="x", caption="") == "{x}"


@pytest.mark.parametrize(
    "template", ["{class}", "{}", "{0}", "{label.__class__}", "{label[0]}", "{Label}"]
)
def test_unknown_fields(template):
    with pytest.raises(
        ValueError, match="unknown field .*the fields are label, superclass, description, caption"
    ):
        fields(template)


@pytest.mark.parametrize("template", ["{label", "label}", "{label:{caption}}", "{label!r}"])
def test_other_braces_that_mean_nothing(template):
    with pytest.raises(ValueError, match="prompt template"):
        render(template, label="x", caption="y")
