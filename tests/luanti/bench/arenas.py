"""The arenas, what is measured in them, and what is aimed at."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

MINUTE = "minute"


class Aim(enum.Enum):
    """How a figure with memories shall compare with the figure without."""

    MORE = "at least {factor:g} times"
    LESS = "at most {factor:g} times"
    ALL = "all"


@dataclass(frozen=True)
class Metric:
    """One figure of an arena: what was counted as `name`, per minute played, or divided by another count (`per`)."""

    name: str
    title: str
    aim: Aim
    factor: float = 1.0
    per: str = MINUTE

    def words(self) -> str:
        """The aim in words."""
        return self.aim.value.format(factor=self.factor)

    def value(self, counted: Mapping[str, float], seconds: float) -> float | None:
        """The figure of one play of `seconds`; None if there was nothing to divide by."""
        divisor = seconds / 60 if self.per == MINUTE else counted.get(self.per, 0)
        return counted.get(self.name, 0) / divisor if divisor else None

    def reached(self, remembering: float, forgetting: float) -> bool:
        """Whether a mean with memories and one without meet the aim."""
        if self.aim is Aim.MORE:
            return remembering >= self.factor * forgetting
        if self.aim is Aim.LESS:
            return remembering <= self.factor * forgetting
        return remembering >= 1


@dataclass(frozen=True)
class Arena:
    """One kind of arena. `kind`: its name in tests/luanti/arenas. `phases`: 2 = the server is restarted in between.

    `fastest`: how many times faster than the game its characters can live, so that a step of the server is short
    enough for what happens in it.
    """

    kind: str
    title: str
    mod: str
    metrics: tuple[Metric, ...]
    seconds: int = 900
    phases: int = 1
    fastest: float = math.inf
    settings: Mapping[str, str] = field(default_factory=dict[str, str])


MINER = (
    Metric("ore", "ore per minute", Aim.MORE, 1.3),
    Metric("damage", "damage per minute", Aim.LESS, 0.5),
)
ARENAS = (
    Arena(
        "forest",
        "woodcutter",
        "lorestream_woodcutter",
        (Metric("wood", "logs per minute", Aim.MORE, 1.3),),
        settings={"lorestream_woodcutter.regrow": "180"},
    ),
    Arena("mine", "miner, many small veins", "lorestream_miner", MINER),
    Arena("deep", "miner, few rich veins far away", "lorestream_miner", MINER),
    Arena(
        "market",
        "trader",
        "lorestream_trader",
        (
            Metric("gold", "gold per minute", Aim.MORE),
            Metric("cheated", "cheated per minute", Aim.LESS),
        ),
    ),
    Arena(
        "gate",
        "guard",
        "lorestream_guard",
        (
            Metric("known", "known of the attackers who returned", Aim.ALL, per="returned"),
            Metric("false_alarms", "alarms per harmless visit", Aim.LESS, per="harmless"),
            Metric("damage", "damage per minute", Aim.LESS, 0.5),
        ),
        phases=2,
        fastest=8.0,
        settings={"dedicated_server_step": "0.05"},
    ),
    Arena(
        "land",
        "explorer",
        "lorestream_explorer",
        (Metric("ground", "new squares per minute", Aim.MORE, 1.5),),
    ),
)
