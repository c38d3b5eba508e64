"""The stand-in as a child process that may be stopped, killed, frozen and started again with its data."""

from __future__ import annotations

from pathlib import Path

from deploy.local import services


class StandIn(services.StandIn):
    """The one of `make cluster`, which may ask for a key: same ports and same collections at every start."""

    def __init__(self, directory: Path, *, api_key: str | None = None) -> None:
        super().__init__(directory, {})
        self.api_key = api_key

    def command(self) -> list[str]:
        """Its module, with the key."""
        return [*super().command(), *([] if self.api_key is None else ["--api-key", self.api_key])]
