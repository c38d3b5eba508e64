"""`lorestream simulate`. Only its options; what it does lies in `simulated_load`."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from lorestream.cli import options
from lorestream.cli.options import LOCAL, AsJson, QueryUrl


def simulate(
    servers: Annotated[
        int, typer.Option(help="Game servers that send side by side.", min=1, max=10_000)
    ] = 10,
    agents: Annotated[
        int, typer.Option(help="Agents, of whom some are busier.", min=1, max=1_000_000)
    ] = 1000,
    rate: Annotated[float, typer.Option(help="Events a second, of all servers together.", min=0.001)] = 100.0,
    seconds: Annotated[float, typer.Option(help="How long events happen.", min=0.001)] = 30.0,
    seed: Annotated[int, typer.Option(help="The same seed: the same events, ids and texts.")] = 1,
    url: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads it)
        options.url(f"A gateway; several take turns. Default: {LOCAL}."),
    ] = None,
    query_url: QueryUrl = None,
    queries: Annotated[float, typer.Option(help="Questions a second, meanwhile.", min=0)] = 0.0,
    repeat: Annotated[
        float, typer.Option(help="The share of questions that were asked before.", min=0, max=1)
    ] = 0.5,
    zipf: Annotated[
        float, typer.Option(help="How uneven the agents are; 0 = all alike.", min=0, max=5)
    ] = 1.0,
    moves: Annotated[
        float, typer.Option(help="How likely an agent changes its server before an event.", min=0, max=1)
    ] = 0.001,
    resend: Annotated[
        float, typer.Option(help="The share of events sent twice on purpose: none may double.", min=0, max=1)
    ] = 0.0,
    drain: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long what is left may still be sent.", min=0)
    ] = 30.0,
    wait_indexed: Annotated[
        float, typer.Option(metavar="SECONDS", help="Wait until all can be found, at most so long.", min=0)
    ] = 0.0,
    ledger: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every accepted event there, as JSON Lines.")
    ] = None,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="End with 0 even if events are lost.")
    ] = False,
    dry_run: Annotated[bool, options.dry_run("Only say what would be sent.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send the events of many game servers and thousands of agents through real gateways, and measure.

    The load is open: events happen at their fixed rate however slow the answers are, and latencies count from the
    moments that were intended. Servers send as the Luanti mod does: gathered for half a second, one request in
    flight, again with the same ids after 429, 503, a timeout or a broken connection. Ends with 1 when an event was
    not accepted, or not findable in time.

    \b
    lorestream simulate --servers 10 --agents 1000 --rate 500 --seconds 60
    lorestream simulate --url http://east:8081 --url http://west:8081 --json
    lorestream simulate --queries 20 --wait-indexed 60
    lorestream simulate --resend 0.01 --ledger sent.jsonl
    lorestream simulate --servers 3 --agents 20 --seconds 5 --dry-run
    """
    import math
    import time

    from lorestream.cli.simulate import load
    from producers.simulator.plan import Plan

    if not all(map(math.isfinite, (rate, seconds, queries, zipf))):
        raise typer.BadParameter("a load needs finite numbers")
    plan = Plan(
        servers=servers,
        agents=agents,
        rate=rate,
        seconds=seconds,
        seed=seed,
        zipf=zipf,
        moves=moves,
        resend=resend,
        start=round(time.time(), 3),
    )
    if dry_run:
        load.describe(plan, as_json=as_json)
        return
    urls = url or [LOCAL]
    course = load.Course(
        urls=urls,
        query_url=query_url or urls[0],
        queries=queries,
        repeat=repeat,
        drain_s=drain,
        indexed_within_s=wait_indexed,
        ledger=ledger,
    )
    report = load.play(plan, course)
    load.show(report, as_json=as_json)
    if (report.lost and not allow_loss) or (report.indexed is not None and not report.indexed.findable):
        raise typer.Exit(1)
