import pickle

from hypothesis import example, given
from hypothesis import strategies as st

from sgid.data.image_set import Texts

STRINGS = st.lists(st.text(max_size=5), max_size=8)


@given(STRINGS, STRINGS)
@example(["a", "\udcff.png"], ["é"])  # half a surrogate pair, as file names that are no UTF-8 have
def test_it_is_as_good_as_a_tuple(strings, others):
    texts, as_tuple = Texts(strings), tuple(strings)
    assert len(texts) == len(as_tuple) and list(texts) == strings
    assert texts == as_tuple and as_tuple == texts and hash(texts) == hash(Texts(as_tuple))
    assert (texts == Texts(others)) == (strings == others)
    assert [texts[i] for i in range(-len(texts), len(texts))] == strings * 2
    assert texts[1:4] == as_tuple[1:4] and texts[::-1] == as_tuple[::-1]
    assert texts + Texts(others) == as_tuple + tuple(others)
    assert pickle.loads(pickle.dumps(texts)) == texts
    assert [texts.index(one) for one in texts] == [as_tuple.index(one) for one in as_tuple]


def test_it_is_no_string():
    assert Texts("ab") != "ab" and Texts(["a", "b"]) == Texts("ab")
