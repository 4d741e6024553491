"""GeNIe: an image of one class, drawn and labelled as another."""

from collections import Counter

import pytest

from sgid.methods.genie import another_class
from sgid.methods.method import Draw
from tests.methods.test_requests import make_plan


@pytest.mark.parametrize("label", [0, 3])
def test_each_other_class_comes_once_in_as_many_repeats(label):
    drawn = [another_class(label, 4, Draw(7, "a.png", repeat)) for repeat in range(3)]
    assert sorted(drawn) == [other for other in range(4) if other != label]


def test_classes_are_equally_likely():
    drawn = Counter(another_class(2, 5, Draw(0, f"{i}.png", 0)) for i in range(2000))
    assert set(drawn) == {0, 1, 3, 4} and min(drawn.values()) > 400


def test_requests_start_from_the_original_and_are_of_the_target(fashion):
    plan = make_plan(fashion, prompt="a photo of a {label}", strength=0.8, target=another_class)
    for request in plan.requests(range(len(plan))):
        own = request.described.label
        assert request.label != own and request.label_weights == {request.label: 1.0}
        assert request.prompt == f"a photo of a {plan.phrases[request.label]}"
        assert request.class_name == fashion.class_names[request.label]
        sample = fashion[list(fashion.keys).index(request.described.key)]
        assert request.init_image is not None and sample.label == own
        assert request.init_image.tobytes() == sample.image.tobytes()
