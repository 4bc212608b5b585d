"""The tree of errors is small, and drawn as it is."""

import re

from tokentide.schemas import errors
from tokentide.schemas.errors import TokentideError

# What a part adds for its own callers, as the guard's refusals, stands with that part.
KINDS = [error for error in TokentideError.__subclasses__() if error.__module__ == errors.__name__]


def test_the_tree_is_drawn_with_every_error() -> None:
    drawn = set(re.findall(r"── (\w+)", errors.__doc__ or ""))

    assert drawn == set(errors.__all__) - {"TokentideError"}
    assert drawn == {error.__name__ for error in KINDS}


def test_there_are_fewer_than_ten_kinds() -> None:
    assert len(KINDS) < 10


def test_every_error_says_who_raises_it() -> None:
    for error in KINDS:
        assert (error.__doc__ or "").startswith("Raised ")
