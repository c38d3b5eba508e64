"""The device check: what it recommends, what it prints, and a run on a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploy import device_check
from deploy.device_check import Way, kept, main, recommended, report_lines, texts
from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
from lorestream.adapters.embedders.torch import TorchEmbedder
from lorestream.errors import Misconfigured
from tests.models import REAL_MODEL, write_tiny_model


def way(name: str, per_s: float, share: float) -> Way:
    return Way(name, lambda: pytest.fail("not opened"), {"KIND": name}, [per_s], [1000 / per_s], share)


def test_the_fastest_that_keeps_the_neighbours_is_recommended() -> None:
    chosen = [way("exact", 100, 1.0), way("near", 300, 0.985), way("far", 900, 0.97)]
    assert recommended(chosen).name == "near"
    lines = report_lines(chosen, "m")
    assert lines[-3:] == [
        "recommended: near",
        "LORESTREAM_EMBEDDER__MODEL=m",
        "LORESTREAM_EMBEDDER__KIND=near",
    ]
    assert lines[3].split() == ["far", "900", "1.11", "0.970"]


def test_neighbours_that_are_lost_count() -> None:
    """Mirrored, points keep their neighbours; as other points they do not."""
    rows = np.random.default_rng(1).standard_normal((60, 4)).astype(np.float32)
    assert kept(rows, rows * np.array([1, 1, 1, -1], np.float32)) == 1
    assert kept(rows, rows[::-1]) < 0.5


def test_the_texts_are_distinct() -> None:
    assert len(set(texts(10_000))) == 3600


def test_a_run_without_torch_and_gpu_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a tiny model, in float32 where the processor offers nothing else."""
    write_tiny_model(tmp_path / "tiny")
    monkeypatch.setenv("LORESTREAM_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr(device_check, "cpu_flags", frozenset)
    monkeypatch.setattr(device_check.importlib.util, "find_spec", lambda name: None)
    main(["--model", str(tmp_path / "tiny"), "--texts", "40", "--threads", "1"])
    printed = capsys.readouterr().out
    assert "torch is left out, and with it any GPU" in printed
    assert "CPU, OpenVINO, fp32" in printed
    assert printed.splitlines()[-1] == "LORESTREAM_EMBEDDER__PRECISION=fp32"


def test_half_precision_is_refused_where_it_does_not_belong(tmp_path: Path) -> None:
    with pytest.raises(
        Misconfigured, match="PRECISION is fp16, which is for LORESTREAM_EMBEDDER__KIND=torch"
    ):
        OpenVinoEmbedder.open(tmp_path, precision="fp16")


@pytest.mark.model
@pytest.mark.soak
def test_a_run_with_torch(capsys: pytest.CaptureFixture[str]) -> None:
    """On a processor torch computes in float32, and half precision is refused."""
    with pytest.raises(Misconfigured, match="fp16 is for a GPU"):
        TorchEmbedder.open(REAL_MODEL, device="cpu", precision="fp16")
    main(["--texts", "32", "--threads", "1"])
    printed = capsys.readouterr().out
    assert "cpu, torch, fp32" in printed
    assert "recommended: " in printed
