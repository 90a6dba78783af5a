"""How much to try: seconds by default, as long as wanted by hand.

    PLAUDIT_FUZZ_CASES=500000 pytest tests/fuzz
    PLAUDIT_FUZZ_SEED=17 pytest tests/fuzz

A failure names the seed of its case, and ``PLAUDIT_FUZZ_ONLY=SEED`` repeats that case alone.
"""

import os
import random
from collections.abc import Iterator


def cases(default: int) -> Iterator["Case"]:
    """Yield a generator of random numbers per case; ``str`` of its attribute ``case`` is the seed that repeats it."""
    only = os.environ.get("PLAUDIT_FUZZ_ONLY")
    if only is not None:
        yield case_of(only)
        return
    number = int(os.environ.get("PLAUDIT_FUZZ_CASES", default))
    seed = os.environ.get("PLAUDIT_FUZZ_SEED", "0")
    for index in range(number):
        yield case_of(f"{seed}-{index}")


def case_of(seed: str) -> "Case":
    """Return the generator of random numbers of one case."""
    return Case(seed)


class Case(random.Random):
    """Random numbers from a seed that is remembered for messages."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.case = seed
