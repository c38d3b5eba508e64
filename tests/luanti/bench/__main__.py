"""`python -m tests.luanti.bench`: plays all arenas with and without memories, and prints a table."""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.luanti.bench import report
from tests.luanti.bench.arenas import ARENAS, Arena
from tests.luanti.bench.picture import svg
from tests.luanti.bench.play import Counted, Length, play
from tests.processes import running

DOCS = Path(__file__).parents[3] / "docs"
SEEDS = (1, 2, 3, 4)
"""Of the table. Characters and questions were tuned with the seeds from 101 on."""


@dataclass(frozen=True)
class Plays:
    """How much is played: the seeds, how often each, how long (1 = as long as the arena says), how fast."""

    seeds: tuple[int, ...]
    runs: int
    share: float
    speed: float

    def length(self, arena: Arena) -> Length:
        """The length of one phase of this arena."""
        return Length(self.seeds, arena.seconds * self.share / arena.phases, min(self.speed, arena.fastest))


def measure(arena: Arena, plays: Plays, folder: Path, url: str) -> list[report.Row]:
    """Play one arena, with and without memories at the same time."""
    length = plays.length(arena)

    def play_all(pool: ThreadPoolExecutor, run: int) -> list[Counted]:
        started = [
            pool.submit(play, arena, length, folder / f"{arena.kind}-{run}-{memory}", url, memory=memory)
            for memory in (True, False)
        ]
        return [each.result() for each in started]

    with ThreadPoolExecutor(2) as pool:
        remembering, forgetting = zip(*(play_all(pool, run) for run in range(plays.runs)), strict=True)
    return report.rows(arena, remembering, forgetting, length.seconds * arena.phases)


def main() -> None:
    """Read the options, play, print the table, write the files."""
    parser = argparse.ArgumentParser(prog="python -m tests.luanti.bench", description=__doc__)
    parser.add_argument(
        "arenas", nargs="*", help=f"of {', '.join(arena.kind for arena in ARENAS)}; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="two seeds, once, a fifth of the time")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument(
        "--runs", type=int, default=2, help="how often each seed is played, default: %(default)s"
    )
    parser.add_argument(
        "--speed", type=float, default=25.0, help="how much faster characters live: %(default)s"
    )
    parser.add_argument(
        "--at-once", type=int, default=2, help="arenas played side by side, default: %(default)s"
    )
    parser.add_argument(
        "--write", action="store_true", help="write docs/luanti_bench.md and docs/luanti_bench.svg"
    )
    options = parser.parse_args()
    chosen = [arena for arena in ARENAS if not options.arenas or arena.kind in options.arenas]
    plays = (
        Plays(tuple(options.seeds[:2]), 1, 1 / 5, options.speed)
        if options.quick
        else Plays(tuple(options.seeds), options.runs, 1.0, options.speed)
    )
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as name,
        running(Path(name) / "lorestream", {}) as lorestream,
        ThreadPoolExecutor(3 if options.quick else options.at_once) as pool,
    ):

        def timed(arena: Arena) -> list[report.Row]:
            rows = measure(arena, plays, Path(name), lorestream.url)
            print(f"{arena.kind}: measured after {time.monotonic() - began:.0f} s", flush=True)
            return rows

        measured = [row for rows in pool.map(timed, chosen) for row in rows]
    print(table := report.table(measured))
    if options.write:
        page = DOCS / "luanti_bench.md"
        page.write_text(report.inserted(page.read_text(encoding="utf-8"), table), encoding="utf-8")
        subtitle = f"means and spread over {len(plays.seeds)} seeds, {plays.runs} plays each; real server, real service"
        (DOCS / "luanti_bench.svg").write_text(svg(measured, subtitle), encoding="utf-8")


if __name__ == "__main__":
    main()
