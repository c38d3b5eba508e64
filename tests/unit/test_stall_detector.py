"""The stall detector: it ends an indexer that has work and makes no progress."""

from __future__ import annotations

import pytest
import structlog

from lorestream.telemetry import set_up_logging
from stream_workers.indexing import stall_detector
from stream_workers.indexing.failures import IndexingFailed
from stream_workers.indexing.stall_detector import StallDetector


async def one_behind() -> int:
    return 1


@pytest.mark.parametrize("style", ["console", "json"])
async def test_a_standstill_is_explained_in_the_log(
    style: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stall_detector, "CHECK_INTERVAL_S", 0.001)
    detector = StallDetector(
        records_behind=one_behind, progress=lambda: 7, is_waiting=lambda: False, timeout_s=0.002
    )
    try:
        set_up_logging(style, "info")  # type: ignore[arg-type]
        with pytest.raises(IndexingFailed, match="none was indexed"):
            await detector.run()
    finally:
        structlog.reset_defaults()
    assert "test_a_standstill_is_explained_in_the_log" in capsys.readouterr().err
