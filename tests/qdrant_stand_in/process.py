"""The stand-in as a child process that can be stopped, killed, paused and restarted with its data."""

from __future__ import annotations

from pathlib import Path

from deploy.local import services


class StandIn(services.StandIn):
    """The stand-in of `make cluster`, optionally with an API key. Ports and collections survive a restart."""

    def __init__(self, directory: Path, *, api_key: str | None = None) -> None:
        super().__init__(directory, {})
        self.api_key = api_key

    def command(self) -> list[str]:
        """The command line, with the API key."""
        return [*super().command(), *([] if self.api_key is None else ["--api-key", self.api_key])]
