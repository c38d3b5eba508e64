"""A cave as a grid, and one episode of a miner in it. No input or output: everything comes from the arguments."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOVES = {"north": (0, -1), "east": (1, 0), "south": (0, 1), "west": (-1, 0)}
ACTIONS = (*MOVES, "dig")
MAX_STEPS = 80
STEP, LAVA, ORE = -1.0, -30.0, 30.0
"""Rewards: of each action, of an action that ends in lava, and of digging the ore."""

Values = Mapping[str, Mapping[str, float]]
"""A Q-table: state -> action -> value. What is missing is 0."""


@dataclass(frozen=True)
class Step:
    """One action and what came of it. `following` is the state after it, None when the episode ended."""

    state: str
    action: str
    reward: float
    following: str | None


@dataclass(frozen=True)
class Cave:
    """A map: `M` where the miner begins, `O` ore, `L` lava, `#` rock, `.` floor. A state is "x,y"."""

    rows: Sequence[str]

    def position(self, symbol: str) -> tuple[int, int]:
        """The first cell with this symbol, as (x, y)."""
        return next((row.index(symbol), y) for y, row in enumerate(self.rows) if symbol in row)

    def cell(self, x: int, y: int) -> str:
        """The symbol at a position; outside the map is rock."""
        return self.rows[y][x] if 0 <= y < len(self.rows) and 0 <= x < len(self.rows[y]) else "#"

    def states(self) -> list[str]:
        """Every state that the miner can act in."""
        return [
            f"{x},{y}" for y, row in enumerate(self.rows) for x, cell in enumerate(row) if cell not in "#L"
        ]

    def act(self, state: str, action: str) -> Step:
        """What an action in a state leads to."""
        x, y = (int(part) for part in state.split(","))
        if action == "dig":
            found = self.cell(x, y) == "O"
            return Step(state, action, ORE if found else STEP, None if found else state)
        right, down = MOVES[action]
        target = self.cell(x + right, y + down)
        if target == "L":
            return Step(state, action, LAVA, None)
        return Step(state, action, STEP, state if target == "#" else f"{x + right},{y + down}")


DEFAULT_CAVE = Cave(
    (
        "M..#....",
        "..#...L.",
        "....L.#.",
        ".#...#O.",
        ".L.#....",
    )
)


def best(values: Values, state: str) -> str:
    """The action with the highest value; the first of several."""
    known = values.get(state, {})
    return max(ACTIONS, key=lambda action: known.get(action, 0.0))


def play(cave: Cave, values: Values, *, explore: float, dice: random.Random) -> list[Step]:
    """One episode. Each action is the best known one, or with probability `explore` (0 to 1) any."""
    x, y = cave.position("M")
    state: str | None = f"{x},{y}"
    steps: list[Step] = []
    while state is not None and len(steps) < MAX_STEPS:
        action = dice.choice(ACTIONS) if dice.random() < explore else best(values, state)
        steps.append(cave.act(state, action))
        state = steps[-1].following
    return steps


def targets(steps: Sequence[Step], values: Values, *, alpha: float, gamma: float) -> list[tuple[Step, float]]:
    """Q-learning: what the value of each step's action should move toward, from the last step to the first.

    In this order one episode teaches the whole way to the ore, because each target already contains what the later
    steps have changed. `alpha` is the learning rate, `gamma` the discount of later rewards, both 0 to 1.
    """
    learned = {state: dict(actions) for state, actions in values.items()}
    found: list[tuple[Step, float]] = []
    for step in reversed(steps):
        later = 0.0
        if step.following is not None:
            known = learned.get(step.following, {})
            later = max(known.get(action, 0.0) for action in ACTIONS)
        target = step.reward + gamma * later
        old = learned.setdefault(step.state, {}).get(step.action, 0.0)
        learned[step.state][step.action] = old + alpha * (target - old)
        found.append((step, target))
    return found
