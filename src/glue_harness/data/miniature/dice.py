"""A random source whose every draw is the same on any machine, Python version and hash seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Draws built on `random.Random(seed).random()` alone.

    That method with an integer seed is the one stream Python promises to keep ("Notes on Reproducibility" in
    the documentation of `random`); `choice` and `shuffle` carry no such promise, and neither do numpy's
    Generators (NEP 19).
    """

    def __init__(self, seed: int):
        self._random = random.Random(seed).random

    def below(self, limit: int) -> int:
        """Return an integer of 0 .. limit - 1."""
        return int(self._random() * limit)

    def coin(self, chance: float = 0.5) -> bool:
        """Return True with this chance."""
        return self._random() < chance

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[self.below(len(items))]

    def shuffle(self, items: Sequence[T]) -> list[T]:
        """Return the items in a random order (Fisher and Yates)."""
        shuffled = list(items)
        for last in range(len(shuffled) - 1, 0, -1):
            other = self.below(last + 1)
            shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
        return shuffled

    def draw(self, items: Sequence[T], count: int) -> list[T]:
        """Return `count` different items, in a random order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(count)]
