"""Notices a consumer that lives and does not do its work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lorestream.errors import LorestreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lorestream.adapters.kafka.consumer import ConsumerConfig
    from lorestream.adapters.kafka.offsets import KafkaOffsets


class Stuck(Exception):
    """The consumer is to be replaced."""


async def watch(
    standing: Callable[[], Mapping[int, int] | None], offsets: KafkaOffsets, membership: ConsumerConfig
) -> None:
    """Raises Stuck for one that has no partitions, or does not bring the records that wait for it.

    Known to happen after a broker's restart, without any sign of it from outside (aiokafka's issue 1154).
    `standing` tells the next offset of each partition that ought to bring records, None without an assignment.
    """
    pause_s = membership.stuck_after_s / 2
    alone_s = 0.0
    behind: dict[int, int] = {}
    while True:
        await asyncio.sleep(pause_s)
        alone_s = 0.0 if standing() is not None else alone_s + pause_s
        if alone_s > membership.stuck_after_s + membership.session_timeout_s:
            raise Stuck(f"no partitions for {alone_s:.0f} s")
        try:
            ends = await offsets.end()
        except LorestreamError:
            # A broker that does not answer brings no records; that is another matter.
            behind = {}
            continue
        before = behind
        behind = {number: at for number, at in (standing() or {}).items() if at < ends.get(number, 0)}
        if still := [number for number, at in behind.items() if before.get(number) == at]:
            raise Stuck(f"records wait in the partitions {still} and do not come")
