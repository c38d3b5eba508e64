"""`lorestream simulate`: its options. `load` does the work."""

# ruff: noqa: D301, FBT002, PLC0415, PLR0917 (signatures are what users type; help must be instant)

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from lorestream.cli import options
from lorestream.cli.options import LOCAL, AsJson, QueryUrl


def simulate(
    servers: Annotated[
        int, typer.Option(help="How many game servers send at the same time.", min=1, max=10_000)
    ] = 10,
    agents: Annotated[int, typer.Option(help="How many agents.", min=1, max=1_000_000)] = 1000,
    rate: Annotated[
        float, typer.Option(help="Events per second, of all servers together.", min=0.001)
    ] = 100.0,
    seconds: Annotated[float, typer.Option(help="How long events occur, in seconds.", min=0.001)] = 30.0,
    seed: Annotated[
        int, typer.Option(help="Random seed: the same seed gives the same events, ids and texts.")
    ] = 1,
    url: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer reads it)
        options.url(f"A gateway. May be repeated: requests rotate. Default: {LOCAL}."),
    ] = None,
    query_url: QueryUrl = None,
    queries: Annotated[float, typer.Option(help="Searches per second, at the same time.", min=0)] = 0.0,
    repeat: Annotated[
        float, typer.Option(help="The share of searches that repeat an earlier one.", min=0, max=1)
    ] = 0.5,
    zipf: Annotated[
        float, typer.Option(help="How unevenly events are spread over agents; 0 = evenly.", min=0, max=5)
    ] = 1.0,
    moves: Annotated[
        float,
        typer.Option(
            help="The probability that an agent moves to another server before an event.", min=0, max=1
        ),
    ] = 0.001,
    resend: Annotated[
        float,
        typer.Option(
            help="The share of events sent twice on purpose, to test that none is stored twice.", min=0, max=1
        ),
    ] = 0.0,
    drain: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="How long to keep sending the backlog after the last event.", min=0
        ),
    ] = 30.0,
    wait_indexed: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Wait until all events can be found, at most so long; 0 = do not wait.",
            min=0,
        ),
    ] = 0.0,
    ledger: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every accepted event to this file, as JSON Lines."),
    ] = None,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="End with 0 even if events were not accepted.")
    ] = False,
    dry_run: Annotated[bool, options.dry_run("Only print what would be sent. Sends nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Load test: send the events of many game servers and thousands of agents to gateways, and measure.

    The load is open loop: events occur at a fixed rate, however slow the
    answers are, and latencies are measured from the intended times. Servers
    send as the Luanti mod does: batches of half a second, one request in
    flight, retries with the same ids after 429, 503, a timeout or a broken
    connection. Ends with 1 if an event was not accepted, or could not be found
    in time.

    \b
    Examples:
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
        raise typer.BadParameter("--rate, --seconds, --queries and --zipf must be finite numbers")
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
        load.print_plan(plan, as_json=as_json)
        return
    urls = url or [LOCAL]
    run_options = load.RunOptions(
        urls=urls,
        query_url=query_url or urls[0],
        queries=queries,
        repeat=repeat,
        drain_s=drain,
        index_timeout_s=wait_indexed,
        ledger=ledger,
    )
    report = load.run(plan, run_options)
    load.print_report(report, as_json=as_json)
    if (report.lost and not allow_loss) or (report.indexed is not None and not report.indexed.findable):
        raise typer.Exit(1)
