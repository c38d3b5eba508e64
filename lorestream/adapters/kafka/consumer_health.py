"""Detects consumers that fail without an error: one that receives nothing, and two with the same member name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka.protocol.group import JoinGroupRequest

from lorestream.errors import LorestreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiokafka import AIOKafkaConsumer

    from lorestream.adapters.kafka.consumer import ConsumerConfig
    from lorestream.adapters.kafka.offsets import KafkaOffsets

_log = structlog.get_logger("lorestream.kafka")


class ConsumerStuck(Exception):
    """The consumer does no work and has to be replaced by a new one."""


async def watch_progress(
    positions: Callable[[], Mapping[int, int] | None], offsets: KafkaOffsets, config: ConsumerConfig
) -> None:
    """Watch one consumer; runs until it is cancelled.

    Raises ConsumerStuck when the consumer has no assignment for longer than `stuck_after_s + session_timeout_s`,
    or when a partition has unread records at the broker and its position is the same in two checks, which are
    `stuck_after_s / 2` apart.
    aiokafka can get into this state after a restart of a broker without raising anything (aiokafka issue 1154).

    `positions` returns the next offset to read of each partition that should deliver records (paused ones are
    left out), or None while the consumer has no assignment.
    """
    interval_s = config.stuck_after_s / 2
    unassigned_s = 0.0
    behind: dict[int, int] = {}
    while True:
        await asyncio.sleep(interval_s)
        unassigned_s = 0.0 if positions() is not None else unassigned_s + interval_s
        if unassigned_s > config.stuck_after_s + config.session_timeout_s:
            raise ConsumerStuck(f"no partitions were assigned for {unassigned_s:.0f} s")
        try:
            ends = await offsets.end()
        except LorestreamError:
            # A broker that does not answer delivers no records either: that is an outage, not a stuck consumer.
            behind = {}
            continue
        before = behind
        behind = {number: at for number, at in (positions() or {}).items() if at < ends.get(number, 0)}
        if unchanged := [number for number, at in behind.items() if before.get(number) == at]:
            raise ConsumerStuck(
                f"the partitions {unchanged} have records at the broker, and none of them arrives"
            )


class DuplicateMemberDetector:
    """Logs an error when another process joins the group with the same `group.instance.id`.

    A member that joins with a name in use replaces the member that holds it, and the group stays in the same
    generation. aiokafka's requests make the broker answer the replaced member with "unknown member" instead of
    "fenced", so it joins again and replaces the other one in turn. The two would continue like that without any error.
    """

    def __init__(self, consumer: AIOKafkaConsumer, name: str) -> None:
        """Watches `consumer`, whose `group.instance.id` is `name`."""
        self._consumer = consumer
        self._name = name
        self._generation = -1
        self._replaced = False

    def partitions_revoked(self) -> None:
        """To be called when partitions are revoked, before the consumer joins the group again."""
        self._replaced = self._coordinator.member_id == JoinGroupRequest.UNKNOWN_MEMBER_ID

    def partitions_assigned(self) -> None:
        """To be called when partitions were assigned. Logs an error if another member had taken the name meanwhile."""
        generation = self._coordinator.generation
        # A member whose session timed out is unknown to the broker as well, but then the group has rebalanced
        # without it, and the generation is a higher one.
        if self._replaced and generation == self._generation:
            _log.error(
                "another process has joined the consumer group with the same member name, and the two take the"
                " partitions from each other: set a different LORESTREAM_LOG__MEMBER for every worker, or none",
                member=self._name,
            )
        self._generation = generation

    @property
    def _coordinator(self) -> Any:  # noqa: ANN401 (aiokafka exposes member id and generation nowhere else)
        return self._consumer._coordinator  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
