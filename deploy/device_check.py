"""What this machine embeds in a second, on its processor and its GPU, and the settings to choose: `python -m deploy.device_check`.

Each way of computing gets the same texts, as Lorestream gives them to the model, in rounds in turn. "kept": of the ten
nearest of each text in float32, the share that is among the ten nearest there too. Below 0.98 a way is not recommended.
Without torch or a GPU it measures what there is, and says what is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lorestream.adapters.embedders import model_preparation
from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
from lorestream.adapters.embedders.openvino_network import cpu_flags, precision
from lorestream.adapters.embedders.queue import Precision, QueuedEmbedder
from lorestream.adapters.embedders.torch import TorchEmbedder
from lorestream.errors import LorestreamError
from lorestream.settings import Settings, load_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENOUGH_KEPT = 0.98
_NEAREST = 10
_ROUNDS = 3
_WARM_UP = 32
_WORDS = (
    ("found", "lost", "dug", "carried", "sold", "bought", "hid", "saw", "built", "broke"),
    ("iron", "oak", "a lantern", "bread", "three sheep", "a bridge", "coal", "an old map", "stone", "rope"),
    (
        "near the mill",
        "in the cave",
        "north of the lake",
        "at the market",
        "behind the tower",
        "by the river",
    ),
    ("before the rain", "with a stranger", "at night", "for the first time", "in the snow", "again"),
)


@dataclass
class Way:
    """One way to compute vectors, and what was measured. `settings`: the variables that choose it, without the prefix."""

    name: str
    open: Callable[[], QueuedEmbedder]
    settings: Mapping[str, str]
    per_s: list[float] = field(default_factory=list[float])
    cpu_ms: list[float] = field(default_factory=list[float])
    kept: float = 1.0


def texts(count: int) -> list[str]:
    """At most 3,600 distinct sentences, in an order in which neighbours share few words."""
    every = [" ".join(words) for words in itertools.product(*_WORDS)]
    return [every[number * 1543 % len(every)] for number in range(min(count, len(every)))]


def ways(model: str, models_dir: Path, threads: int, report: Callable[[str], None]) -> list[Way]:
    """What can be measured here, float32 first. Reports what is missing."""
    found: list[Way] = []
    try:
        files = model_preparation.prepare(model, models_dir, report=report)
    except LorestreamError as error:
        report(f"OpenVINO is left out: {error}")
    else:
        kinds: list[tuple[str, Precision]] = [("fp32", "fp32")]
        if precision(cpu_flags()) != "f32":
            kinds.append(("bf16", "auto"))
        found += [
            Way(
                f"CPU, OpenVINO, {label}",
                lambda kind=kind: OpenVinoEmbedder.open(
                    files.directory, threads=threads, precision=kind, cache_entries=0
                ),
                {"KIND": "openvino", "PRECISION": kind},
            )
            for label, kind in kinds
        ]
    if importlib.util.find_spec("sentence_transformers") is None:
        report(f"torch is left out, and with it any GPU: {model_preparation.INSTALL_TORCH}")
        return found

    def torch_way(device: str, kind: Precision) -> Way:
        return Way(
            f"{device}, torch, {kind}",
            lambda: TorchEmbedder.open(
                model, threads=threads, device=device, precision=kind, cache_entries=0
            ),
            {"KIND": "torch", "DEVICE": device, "PRECISION": kind},
        )

    found.append(torch_way("cpu", "fp32"))
    gpu = _gpu(importlib.import_module("torch"))
    if gpu is None:
        report("torch finds no GPU here: only the processor is measured")
        return found
    return [*found, torch_way(gpu, "fp32"), torch_way(gpu, "fp16")]


def _gpu(torch: Any) -> str | None:  # noqa: ANN401 (torch is not installed where the types are checked)
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


async def measure(chosen: Sequence[Way], sentences: Sequence[str]) -> None:
    """Fill in the figures of each way, over rounds in turn."""
    reference: NDArray[np.float32] | None = None
    opened = [(way, way.open()) for way in chosen]
    try:
        for way, embedder in opened:
            await embedder.embed(sentences[:_WARM_UP])
            vectors = (await embedder.embed(sentences)).vectors
            reference = vectors if reference is None else reference
            way.kept = kept(reference, vectors)
        for _ in range(_ROUNDS):
            for way, embedder in opened:
                began, cpu = time.perf_counter(), time.process_time()
                await embedder.embed(sentences)
                way.per_s.append(len(sentences) / (time.perf_counter() - began))
                way.cpu_ms.append(1000 * (time.process_time() - cpu) / len(sentences))
    finally:
        for _, embedder in opened:
            await embedder.close()


def kept(reference: NDArray[np.float32], vectors: NDArray[np.float32]) -> float:
    """Of the ten nearest rows of each row of `reference`, (n, dim), the share that `vectors`, (n, dim), has among its ten."""

    def nearest(rows: NDArray[np.float32]) -> NDArray[np.intp]:
        scores = rows @ rows.T
        np.fill_diagonal(scores, -np.inf)
        return np.argsort(-scores, axis=1, kind="stable")[:, :_NEAREST]

    pairs = zip(nearest(reference), nearest(vectors), strict=True)
    return statistics.mean(len(set(one) & set(other)) / len(one) for one, other in pairs)


def recommended(chosen: Sequence[Way]) -> Way:
    """The fastest of those that keep the neighbours; the first one, in float32, does by definition."""
    return max(
        (way for way in chosen if way.kept >= ENOUGH_KEPT), key=lambda way: statistics.median(way.per_s)
    )


def report_lines(chosen: Sequence[Way], model: str) -> list[str]:
    """The table, and the settings."""
    lines = [f"{'':24}{'texts/s':>10}{'CPU ms a text':>16}{'kept':>8}"]
    lines += [
        f"{way.name:24}{statistics.median(way.per_s):>10,.0f}{statistics.median(way.cpu_ms):>16.2f}{way.kept:>8.3f}"
        for way in chosen
    ]
    best = recommended(chosen)
    lines += ["", f"recommended: {best.name}"]
    lines += [
        f"LORESTREAM_EMBEDDER__{name}={value}" for name, value in {"MODEL": model, **best.settings}.items()
    ]
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, measure, print."""
    settings: Settings = load_settings()
    parser = argparse.ArgumentParser(
        prog="python -m deploy.device_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default=settings.embedder.model, help="default: %(default)s")
    parser.add_argument("--texts", type=int, default=1000, help="of a round, at most 3600: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="of the processor; 0: all cores")
    options = parser.parse_args(arguments)
    chosen = ways(options.model, settings.models_dir, options.threads, print)
    if not chosen:
        parser.exit(1, "nothing can be measured: see above what is missing\n")
    asyncio.run(measure(chosen, texts(options.texts)))
    print(*report_lines(chosen, options.model), sep="\n")  # noqa: T201 (a program)


if __name__ == "__main__":
    main()
