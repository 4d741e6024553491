"""What was computed once and will be asked for again, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar, final

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@final
class Kept(Generic[Key, Value]):
    """Values by key; those used longest ago go first when they are more than `limit` bytes."""

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self.limit = limit
        self.size = size
        self.used = 0
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(
        self, keys: Iterable[Key], compute: Callable[[list[Key]], Iterable[tuple[Key, Value]]]
    ) -> dict[Key, Value]:
        """The values of all `keys`; `compute` is given the distinct ones that are not kept."""
        wanted = list(dict.fromkeys(keys))
        found = {key: self._values[key] for key in wanted if key in self._values}
        if missing := [key for key in wanted if key not in found]:
            found |= compute(missing)
        for key in wanted:
            if key not in self._values:
                self.used += self.size(found[key])
                self._values[key] = found[key]
            self._values.move_to_end(key)
        while self.used > self.limit:
            _, oldest = self._values.popitem(last=False)
            self.used -= self.size(oldest)
        return found
