"""What is kept from one call to the next."""

from sgid.generation.kept import Kept


def store(limit=10):
    asked = []

    def compute(missing):
        asked.append(list(missing))
        return [(key, key * 2) for key in missing]

    kept = Kept(limit, len)
    return (lambda keys: kept.get(keys, compute)), asked, kept


def test_each_is_computed_once():
    get, asked, _ = store()
    assert get(["a", "b", "a"]) == {"a": "aa", "b": "bb"}
    assert get(["b", "c"]) == {"b": "bb", "c": "cc"}
    assert asked == [["a", "b"], ["c"]]


def test_those_used_longest_ago_go_first():
    get, asked, kept = store(limit=6)  # three of them
    get(["a", "b", "c"])
    get(["a"])
    get(["d"])
    assert kept.used == 6
    get(["a", "c", "d"])
    assert asked == [["a", "b", "c"], ["d"]]
    get(["b"])
    assert asked[-1] == ["b"]


def test_more_than_is_kept_is_given_all_the_same():
    get, _, kept = store(limit=4)
    assert len(get(list("abcdefgh"))) == 8
    assert kept.used <= 4
