"""Several calls in a row as a generator, so that the blocking and the asynchronous client can send them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

from lorestream.client import AsyncMemoryClient, MemoryClient
from lorestream.client.call import Call

T = TypeVar("T")
Steps: TypeAlias = Generator[Call[Any], Any, T]
"""A generator: it yields a call, receives its result or the exception that it raised, and returns in the end."""


def run(client: MemoryClient, steps: Steps[T]) -> T:
    """Send the calls one after the other; what the generator returns. Raises what a call raises."""
    try:
        call = next(steps)
        while True:
            try:
                result = client.send(call)
            except Exception as error:  # noqa: BLE001 (the generator decides)
                call = steps.throw(error)
            else:
                call = steps.send(result)
    except StopIteration as end:
        return end.value


async def arun(client: AsyncMemoryClient, steps: Steps[T]) -> T:
    """Send the calls one after the other; what the generator returns. Raises what a call raises."""
    try:
        call = next(steps)
        while True:
            try:
                result = await client.send(call)
            except Exception as error:  # noqa: BLE001 (the generator decides)
                call = steps.throw(error)
            else:
                call = steps.send(result)
    except StopIteration as end:
        return end.value
