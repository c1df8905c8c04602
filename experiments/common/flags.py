"""Types of the flags of commands: numbers in a range, refused with the flag's name where they are read."""

import math
from collections.abc import Callable
from typing import Annotated, Any

import tyro


def _number(kind: Callable[[str], Any], demand: str, holds: Callable[[Any], bool]) -> Any:
    """How tyro reads a number that must be in a range."""

    def read(words: list[str]) -> Any:
        value = kind(words[0])
        if not holds(value):
            raise ValueError(f"it must be {demand}, got {words[0]}.")
        return value

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT" if kind is int else "FLOAT",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, kind) if kind is int else isinstance(value, int | float),
        str_from_instance=lambda value: [str(value)],
    )


Count = Annotated[int, _number(int, "at least 1", lambda value: value >= 1)]
"""A number of things."""

Number = Annotated[int, _number(int, "at least 0", lambda value: value >= 0)]
"""The number of a thing, from 0."""

Seed = Annotated[int, _number(int, "in 0..2**32 - 1", lambda value: 0 <= value < 2**32)]
"""A random seed."""

NotNegative = Annotated[float, _number(float, "a finite number of at least 0", lambda v: 0 <= v < math.inf)]
"""A strength or a scale."""

Share = Annotated[float, _number(float, "in (0, 1]", lambda value: 0 < value <= 1)]
"""A part of a whole."""
