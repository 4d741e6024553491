import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgid.methods.prompts import (
    by_class,
    fields,
    file_name,
    from_files,
    product,
    render,
    templates,
)
from tests.methods.test_requests import make_plan


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
        ValueError,
        match="unknown field .*the fields are label, superclass, description, confusable, caption",
    ):
        fields(template)


@pytest.mark.parametrize("template", ["{label", "label}", "{label:{caption}}", "{label!r}"])
def test_other_braces_that_mean_nothing(template):
    with pytest.raises(ValueError, match="prompt template"):
        render(template, label="x", caption="y")


def test_a_product_has_every_combination_once():
    pool = product("{b} {a} {label}", a=["red", "old"], b=["a photo of a", "a sketch of a"])
    assert sorted(pool) == [
        "a photo of a old {label}",
        "a photo of a red {label}",
        "a sketch of a old {label}",
        "a sketch of a red {label}",
    ]
    with pytest.raises(ValueError, match="must hold {a}"):
        product("{label}", a=["red"])


def test_pools_from_a_file_a_folder_and_a_table(tmp_path):
    lines = tmp_path / "all.txt"
    lines.write_text("# scenes\na {label} at night\n\n  a {label} at sea \n")
    assert from_files(str(lines)) == ["a {label} at night", "a {label} at sea"]
    assert from_files(str(lines), "old, {text}")[0] == "old, a {label} at night"
    for name in ("T-shirt/top", "coat"):
        (tmp_path / "by_class").mkdir(exist_ok=True)
        (tmp_path / "by_class" / file_name(name)).write_text(f"a {name} on a chair\n")
    pool, lacking = by_class(from_files(str(tmp_path / "by_class")), ["coat", "T-shirt/top", "bag"])
    assert templates(pool, "T-shirt/top") == ["a T-shirt/top on a chair"] and lacking == ["bag"]
    table = tmp_path / "table.yaml"
    table.write_text("coat: [a coat]\n007: [a film]\n")
    assert by_class(from_files(str(table)), ["007", "coat"]) == (
        {"007": ["a film"], "coat": ["a coat"]},
        [],
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.yaml", "coat: []", "coat has no list of texts"),
        ("p.yaml", "coat: a coat", "coat has no list of texts"),
        ("p.txt", "# nothing", "it has no list of texts"),
        ("p.txt", "a {species}", "unknown field species"),
    ],
)
def test_files_that_are_no_pools(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        from_files(str(tmp_path / name))
    with pytest.raises(FileNotFoundError, match="neither a file of prompts nor a folder"):
        from_files(str(tmp_path / "elsewhere"))


def test_repeats_take_the_prompts_of_their_class_in_turn(fashion):
    names = fashion.class_names
    pool = {name: [f"{name} {i} {{label}}" for i in range(3)] for name in names}
    plan = make_plan(fashion, prompt=pool, target=lambda label, *_: (label + 1) % 3)
    for start in range(0, len(plan), 3):
        some = plan.requests(range(start, start + 3))
        name = some[0].class_name
        expected = {f"{name} {i} {plan.phrases[some[0].label]}" for i in range(3)}
        assert {one.prompt for one in some} == expected
    first = [plan.requests([start])[0].prompt.split()[-3] for start in range(0, len(plan), 3)]
    assert len(set(first)) > 1


@pytest.mark.parametrize("how", ["same_class", "other_class"])
def test_captions_of_other_images(fashion, how):
    plan = make_plan(fashion, prompt="{caption}", caption=how, expansion=2)
    label_of = dict(zip(fashion.keys, fashion.labels, strict=True))
    found = [
        (request.label, label_of[request.prompt.removeprefix("caption ")], request)
        for request in plan.requests(range(len(plan)))
    ]
    assert all((own == other) == (how == "same_class") for own, other, _ in found)
    taken = [request.prompt != request.described.caption for *_, request in found]
    assert sum(taken) > len(taken) / 4
