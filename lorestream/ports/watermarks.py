"""The ports of the watermarks: which offsets are finished, per consumer group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class WatermarkReader(Protocol):
    """How far the finished work has come: what `wait=indexed` and `after` wait for."""

    async def reached(self, positions: Mapping[int, int], timeout_s: float) -> bool:
        """Whether everything up to and including these offsets is finished, waiting at most `timeout_s`."""
        ...


class WatermarkPublisher(Protocol):
    """Where an indexer publishes how far its own finished work has come."""

    async def publish(self, positions: Mapping[int, int]) -> None:
        """Everything below these offsets, per partition, is finished. Never lowers a watermark."""
        ...


class Watermarks(WatermarkReader, WatermarkPublisher, Protocol):
    """Both sides: the watermarks of one consumer group."""
