"""Notices another process that calls itself by the same name in a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from aiokafka.protocol.group import JoinGroupRequest

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

_log = structlog.get_logger("lorestream.kafka")


class DuplicateMemberDetector:
    """Watches one consumer that has a lasting name (group.instance.id).

    Who joins with a name that is taken replaces its holder, and the group goes on in the same generation. aiokafka
    asks in a way to which the broker answers "unknown member", not "fenced"; so the holder joins again, replaces
    the other in turn, and both go on like that without a word.
    """

    def __init__(self, consumer: AIOKafkaConsumer, name: str) -> None:
        self._consumer = consumer
        self._name = name
        self._generation = -1
        self._replaced = False

    def revoked(self) -> None:
        """Partitions go. Called before the consumer joins again."""
        self._replaced = self._coordinator.member_id == JoinGroupRequest.UNKNOWN_MEMBER_ID

    def assigned(self) -> None:
        """Partitions have come: logs an error when they were taken by a namesake in between."""
        generation = self._coordinator.generation
        # Who was silent for too long is unknown as well, but the group has shared out anew without it since.
        if self._replaced and generation == self._generation:
            _log.error(
                "another process has the same name, and they take the partitions from each other: give every worker"
                " a LORESTREAM_LOG__MEMBER of its own, or none",
                member=self._name,
            )
        self._generation = generation

    @property
    def _coordinator(self) -> Any:  # noqa: ANN401 (aiokafka tells these two nowhere else)
        return self._consumer._coordinator  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
