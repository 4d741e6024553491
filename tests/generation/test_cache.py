"""What is kept from one call to the next."""

from sgid.generation.cache import LRUCache


def store(limit=10):
    asked = []

    def get(key):
        def compute():
            asked.append(key)
            return key * 2

        return kept.get(key, compute)

    kept = LRUCache(limit, len)
    return get, asked, kept


def test_each_is_computed_once():
    get, asked, _ = store()
    assert [get(key) for key in "abaabb"] == ["aa", "bb", "aa", "aa", "bb", "bb"]
    assert asked == ["a", "b"]


def test_those_used_longest_ago_go_first():
    get, asked, kept = store(limit=6)  # three of them
    for key in "abcad":
        get(key)
    assert kept.used == 6
    for key in "acd":
        get(key)
    assert asked == ["a", "b", "c", "d"]
    get("b")
    assert asked[-1] == "b"


def test_more_than_is_kept_is_given_all_the_same():
    get, _, kept = store(limit=4)
    assert get("abcdefgh") == "abcdefghabcdefgh"
    assert kept.used == 0
