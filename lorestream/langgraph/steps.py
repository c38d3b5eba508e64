"""Operations as generators of calls, so that either client can send them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from lorestream.client.call import Call

T = TypeVar("T")
Steps: TypeAlias = Generator[Sequence[Call[Any]], list[Any], T]
"""A generator: it yields calls that may be sent concurrently, receives their results (None: not found), and returns."""


def concurrently(parts: Sequence[Steps[T]]) -> Steps[list[T]]:
    """The results of several generators, run in lockstep: the calls of one step are yielded together."""
    results: list[Any] = [None] * len(parts)
    answers: dict[int, list[Any] | None] = dict.fromkeys(range(len(parts)))
    while answers:
        wanted: dict[int, Sequence[Call[Any]]] = {}
        for index, answer in answers.items():
            try:
                wanted[index] = parts[index].send(cast("list[Any]", answer))
            except StopIteration as end:
                results[index] = end.value
        if not wanted:
            break
        got = iter((yield [call for some in wanted.values() for call in some]))
        answers = {index: [next(got) for _ in some] for index, some in wanted.items()}
    return results


def chunks(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The things in their order, at most `size` at a time."""
    return (things[start : start + size] for start in range(0, len(things), size))
