"""The vectors of queries, each waited for so long and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from lorestream.errors import Overloaded
from lorestream.ports import Priority

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorestream.ports import Embedder

EMBEDDING_S = 3.0
"""How long a query waits for its vector. An endpoint that fails is given up after 2 s, which is an outage.

Queries that come while the model works go into its next call together. To wait for more of them would not pay: on
two cores, 1 ms (2 ms) of waiting made the median of 20 a second 9.4 ms (11.6 ms) instead of 7.8 ms, and gained
nothing at 100 or 160 a second.
"""

Vector: TypeAlias = "NDArray[np.float32]"


async def vectors_of(embedder: Embedder, queries: Iterable[str]) -> dict[str, Vector]:
    """The vector of each query, made in one go.

    Raises Overloaded when that takes too long, InvalidRequest when an endpoint takes one of them ill, Unavailable.
    """
    distinct = list(dict.fromkeys(queries))
    try:
        async with asyncio.timeout(EMBEDDING_S):
            embedded = await embedder.embed(distinct, Priority.QUERY)
    except TimeoutError as error:
        raise Overloaded(f"no vector within {EMBEDDING_S:g} s: too much waits for the embedder") from error
    return dict(zip(distinct, embedded.vectors, strict=True))
