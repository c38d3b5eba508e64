"""`python -m examples.miner`: let several game servers teach one miner, then print and draw what it has learned."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from examples.miner.learn import Lessons, Outcome, learn
from examples.miner.picture import svg
from lorestream.client import DEFAULT_URL, AsyncMemoryClient


async def _run(lessons: Lessons, url: str) -> Outcome:
    async with AsyncMemoryClient(url) as client:
        return await learn(client, lessons)


def main() -> None:
    """Read the options, learn, print the rewards, write the picture."""
    parser = argparse.ArgumentParser(prog="python -m examples.miner", description=__doc__)
    parser.add_argument("--url", default=DEFAULT_URL, help="a running lorestream (default: %(default)s)")
    parser.add_argument("--agent", default=Lessons.agent, help="whose table is taught (default: %(default)s)")
    parser.add_argument("--servers", type=int, default=Lessons.servers, help="default: %(default)s")
    parser.add_argument(
        "--episodes", type=int, default=Lessons.episodes, help="of each server, default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=Lessons.seed, help="default: %(default)s")
    parser.add_argument("--picture", type=Path, help="the SVG file to write")
    options = parser.parse_args()
    lessons = Lessons(options.agent, options.servers, options.episodes, options.seed)
    outcome = asyncio.run(_run(lessons, options.url))
    for bucket in outcome.buckets:
        print(f"episode {bucket.episode:3.0f}  mean reward {bucket.mean:6.1f}")
    actions = " ".join(step.action for step in outcome.last)
    print(f"{outcome.updates} updates by {lessons.servers} servers; the stored policy now plays: {actions}")
    if options.picture:
        subtitle = f"{lessons.servers} game servers update one Q-table"
        options.picture.write_text(
            svg(lessons.cave, outcome.buckets, outcome.policy, subtitle=subtitle), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
