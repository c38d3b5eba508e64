"""The ports of the watermarks: how far a consumer group has finished its work, per partition.

A record is finished when its effect can be found and the caches were invalidated (or when it went to the dead letters, or
an erasure covers it). The watermark of a partition is its first offset that is not finished: all below it are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class WatermarkReader(Protocol):
    """Waits for finished work: `wait=indexed` and `after` use it."""

    async def reached(self, offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Whether all records up to and including these offsets (partition -> offset) are finished.

        Waits until they are, for at most `timeout_s` seconds, and returns True as soon as they are. With a timeout of
        0 it checks once. Does not raise in an outage: it returns what is known.
        """
        ...

    async def finished(self) -> Mapping[int, int]:
        """The watermarks, as far as they are known now: partition -> first offset that is not finished.

        Partitions without a published watermark are left out. Does not raise in an outage.
        """
        ...


class WatermarkPublisher(Protocol):
    """Where an indexer publishes the watermarks of its own partitions."""

    async def publish(self, positions: Mapping[int, int]) -> None:
        """Raise the watermarks (partition -> first offset that is not finished). Never lowers one.

        Returns without waiting for other processes to see it, and does not raise in an outage: readers fall back on
        the committed offsets of the group, or the adapter publishes again later.
        """
        ...


class Watermarks(WatermarkReader, WatermarkPublisher, Protocol):
    """Both sides: the watermarks of one consumer group."""
