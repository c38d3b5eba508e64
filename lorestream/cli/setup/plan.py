"""`lorestream plan`: what a workload needs, as a table."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from lorestream.cli import terminal
from lorestream.planning.costs import measured_costs
from lorestream.planning.sizing import plan

if TYPE_CHECKING:
    from lorestream.planning.sizing import Limit, Plan, Workload


def show(workload: Workload, *, as_json: bool) -> bool:
    """Print the plan. Returns False if no number of processes carries the workload."""
    found = plan(workload, measured_costs())
    if as_json:
        limits = [
            {"name": one.name, "headroom": _headroom(one), "remedy": one.remedy} for one in found.limits
        ]
        terminal.print_json(
            {**asdict(found), "limits": limits, "fits": found.fits, "workload": asdict(workload)}
        )
        return found.fits
    terminal.print_renderable(_table(found))
    first = found.limits[0]
    terminal.print_line(
        f"{found.memories:,.0f} memories, {found.partitions} partitions, {found.shards} shards"
    )
    if found.fits:
        terminal.print_line(f"First to give out, at {first.headroom:.1f} times this workload: {first.name}.")
    else:
        terminal.print_line(f"This does not fit: {first.name} carries {first.headroom:.2f} of this workload.")
    terminal.print_line(f"What helps then: {first.remedy}.")
    terminal.print_line("Cores are 60 % busy. How it is computed: docs/scaling.md")
    return found.fits


def _headroom(limit: Limit) -> float | None:
    return None if math.isinf(limit.headroom) else limit.headroom


def _table(found: Plan) -> Table:
    table = Table("part", "processes", "cores", "memory GB", "disk GB", "for")
    for one in found.parts:
        table.add_row(
            one.name,
            f"{one.count:,}",
            f"{one.cores:,.1f}",
            f"{one.memory_gb:,.1f}",
            f"{one.disk_gb:,.0f}" if one.disk_gb else "",
            one.why,
        )
    cores = sum(one.cores for one in found.parts)
    memory = sum(one.memory_gb for one in found.parts)
    disk = sum(one.disk_gb for one in found.parts)
    table.add_section()
    table.add_row("all", "", f"{cores:,.1f}", f"{memory:,.1f}", f"{disk:,.0f}", "")
    return table
