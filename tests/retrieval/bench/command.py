"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from tests.retrieval.bench import conversations, report
from tests.retrieval.bench.corpus import Corpus, merged
from tests.retrieval.bench.kinds import HELD_OUT, KINDS, TUNE
from tests.retrieval.bench.kinds.noise import noise
from tests.retrieval.bench.measure import measure
from tests.retrieval.bench.methods import COMPARED, METHODS, chosen
from tests.retrieval.bench.peers import PEERS

_SEEDS = {"tune": TUNE, "held-out": HELD_OUT}
_EPILOG = f"""
kinds: {", ".join(KINDS)}
methods: {", ".join(METHODS)}, or NAME=JSON with the options of a search, such as
  --method 'mine={{"mode": "hybrid", "weights": {{"relevance": 1, "recency": 0.1}}}}'

Constants are chosen on the seeds "tune" and judged on "held-out". Vectors are kept in --cache, so that the model is
needed only once for each text.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure, print the table."""
    options = _parser().parse_args(arguments)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),  # only the table goes to stdout
    )
    methods = chosen(options.method or COMPARED)
    settings: dict[str, Any] = {}
    for one in options.set:
        _set(settings, *one.split("=", 1))
    common = {"cache": options.cache, "settings": settings, "peers": options.peers}
    tables = asyncio.run(_measure_all(_corpora(options), methods, common))
    if options.json:
        options.json.write_text(json.dumps(report.document(tables), indent=1))
    print(report.markdown(tables))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.retrieval.bench",
        description="Recall, MRR and NDCG of the search methods, on generated memories or on dialogues of a file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, metavar="KIND", default=list(KINDS), help="default: all"
    )
    parser.add_argument(
        "--seeds", nargs="+", default=["held-out"], help="numbers, `tune` or `held-out` (default)"
    )
    parser.add_argument(
        "--noise", type=int, default=0, metavar="N", help="add N memories that answer nothing to each kind"
    )
    parser.add_argument(
        "--method",
        action="append",
        metavar="NAME[=JSON]",
        help=f"may be repeated; default: {', '.join(COMPARED)}",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting, such as embedder.model=NAME",
    )
    parser.add_argument("--conversations", type=Path, metavar="FILE", help="dialogues of this file instead")
    parser.add_argument(
        "--no-conversation", action="store_true", help="dialogues without metadata.conversation"
    )
    parser.add_argument("--no-speaker", action="store_true", help="dialogues without the speaker in the text")
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=PEERS,
        metavar="PEER",
        default=[],
        help=f"ask these too, only questions without filters: {', '.join(PEERS)}",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures of each seed to this file"
    )
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lorestream-bench")
    return parser


def _corpora(options: argparse.Namespace) -> dict[int, list[Corpus]]:
    """By seed: the corpora, each of which gets a store of its own."""
    if options.conversations:
        dialogues = conversations.read(
            options.conversations,
            with_conversation=not options.no_conversation,
            with_speaker=not options.no_speaker,
        )
        return {0: [dialogues]}
    seeds = [seed for one in options.seeds for seed in _SEEDS.get(one) or (int(one),)]
    return {seed: [_with_noise(KINDS[kind](seed), options.noise) for kind in options.kinds] for seed in seeds}


def _with_noise(corpus: Corpus, count: int) -> Corpus:
    begin = min(event["time"] for event in corpus.events)
    return merged([corpus, noise(count, corpus.agents, begin, corpus.end)]) if count else corpus


async def _measure_all(
    corpora: Mapping[int, Sequence[Corpus]],
    methods: Mapping[str, Mapping[str, Any]],
    common: Mapping[str, Any],
) -> dict[int, report.Table]:
    tables: dict[int, report.Table] = {}
    progress = _progress(time.monotonic())
    for seed, parts in corpora.items():
        table: dict[tuple[str, str], Any] = {}
        for corpus in parts:
            table |= await measure(corpus, methods, report=progress, **common)
        tables[seed] = report.with_totals(table)
    return tables


def _progress(begin: float) -> Callable[[str], None]:
    return lambda what: print(f"{time.monotonic() - begin:6.1f} s  {what}", file=sys.stderr, flush=True)


def _set(settings: dict[str, Any], name: str, value: str) -> None:
    """Set `embedder.model` in nested dictionaries. A value that is JSON is read as such."""
    *path, last = name.lower().replace("__", ".").split(".")
    for part in path:
        settings = settings.setdefault(part, {})
    try:
        settings[last] = json.loads(value)
    except ValueError:
        settings[last] = value
