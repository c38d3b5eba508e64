"""A real Luanti server and a real headless client, each in its own folder, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from deploy.local.process import NotInstalled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HERE = Path(__file__).parent
PRODUCERS = HERE.parents[1] / "producers" / "luanti"
SERVER_NAMES = ("luantiserver", "minetestserver")
CLIENT_NAMES = ("luanti", "minetest")
INSTALL = "apt-get install -y minetest-server minetest"
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/games", "/usr/local/games"])


def find(names: tuple[str, ...]) -> str:
    """The path of the first of these programs that is installed. Raises NotInstalled if none is."""
    if (found := next((path for name in names if (path := shutil.which(name, path=_PATH))), None)) is None:
        raise NotInstalled(f"{names[-1]} is not installed, run: {INSTALL}")
    return found


def wait_until(condition: Callable[[], Any], *, what: str, seconds: float = 60.0, every: float = 0.02) -> Any:
    """Poll until `condition` is true; return its value. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(every)
    return value


def free_udp_port() -> int:
    """A free UDP port on the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A child process with its own HOME and output file."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.output = home / "output.txt"
        self.child: subprocess.Popen[bytes] | None = None

    def spawn(self, command: list[str], **variables: str) -> None:
        """Start the process with these environment variables besides its own; its output is appended to `output`."""
        environment = {"HOME": str(self.home), "PATH": _PATH, "LANG": "C.UTF-8", **variables}
        with self.output.open("ab") as output:
            self.child = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, cwd=self.home
            )

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.child is not None and self.child.poll() is None

    def end(self, how: signal.Signals, seconds: float = 15.0) -> int | None:
        """Send a signal and wait; kill the process after `seconds`. Returns its exit status."""
        if self.child is None:
            return None
        if self.alive:
            self.child.send_signal(how)
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()


class RealServer(Process):
    """A server with a world of its own that holds the mod and the driver, an empty map and one port.

    `settings` go into its configuration. It can be started again in the same world after `stop` or `kill`.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        game: str = "minetest_game",
        settings: Mapping[str, str] | None = None,
        mods: tuple[Path, ...] = (),
        http: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        self.world = folder / "world"
        self.log = folder / "server.log"
        self.config = folder / "server.conf"
        self.port = free_udp_port()
        self.game = game
        self._asked = 0
        self._settings = {
            "server_announce": "false",
            "bind_address": "127.0.0.1",
            "mg_name": "singlenode",
            "secure.enable_security": "true",
            "enable_damage": "true",
            "creative_mode": "false",
            "default_privs": "interact, shout, server",
            "debug_log_level": "action",
            "lorestream.url": url,
            "lorestream.server": "test-1",
            "lorestream.fold_interval": "0.3",
            "lorestream.flush_interval": "0.1",
            "lorestream.recall_rate": "50",
            **({"secure.http_mods": "lorestream"} if http else {}),
            **(settings or {}),
        }
        self._make_world(mods)

    def _make_world(self, mods: tuple[Path, ...]) -> None:
        worldmods = self.world / "worldmods"
        for mod in (PRODUCERS / "lorestream", HERE / "driver", *mods):
            shutil.copytree(mod, worldmods / mod.name, dirs_exist_ok=True)
        (self.world / "driver").mkdir(exist_ok=True)
        (self.world / "world.mt").write_text(
            f"gameid = {self.game}\nbackend = sqlite3\nplayer_backend = sqlite3\n"
            "auth_backend = sqlite3\nmod_storage_backend = sqlite3\n"
        )
        self.configure({})

    def configure(self, changes: Mapping[str, str]) -> None:
        """Change settings for the next start."""
        self._settings |= changes
        self.config.write_text("".join(f"{key} = {value}\n" for key, value in self._settings.items()))

    def start(self, *, seconds: float = 20.0) -> Self:
        """Start the server; return when the driver answers. Raises AssertionError after `seconds`."""
        self.spawn(
            [
                find(SERVER_NAMES),
                *("--world", str(self.world), "--config", str(self.config)),
                *("--logfile", str(self.log), "--port", str(self.port)),
            ]
        )
        self.lua("return 1", seconds=seconds)
        return self

    def lua(self, code: str, *, seconds: float = 60.0) -> Any:
        """Run Lua code in the server; returns its return value, or the one passed to `done(value)`. Raises AssertionError."""
        self._asked += 1
        name = self.world / "driver" / f"{self._asked:06d}"
        part, answer = name.with_suffix(".part"), name.with_suffix(".json")
        part.write_text(code)
        part.rename(name.with_suffix(".lua"))
        wait_until(
            lambda: answer.exists() or not self.alive, what=f"an answer to {code[:60]}", seconds=seconds
        )
        assert answer.exists(), f"the server ended:\n{self.tail()}"
        result = json.loads(answer.read_text())
        assert "error" not in result, result["error"]
        return result["value"]

    def stop(self) -> int | None:
        """Shut down by SIGTERM; shutdown hooks run."""
        return self.end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill by SIGKILL; no hooks run."""
        self.end(signal.SIGKILL)

    def log_text(self) -> str:
        """The content of the log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self) -> str:
        """The end of the log and of the output."""
        output = self.output.read_text(errors="replace") if self.output.exists() else ""
        return (self.log_text() + output)[-3000:]

    def spooled(self) -> list[dict[str, Any]]:
        """The events in the spool files that are not done, in order."""
        segments: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for path in (self.world / "lorestream_spool").glob("*.ndjson"):
            with contextlib.suppress(FileNotFoundError):  # acknowledged meanwhile
                *_, number, waiting = re.split(r"^#(\d*)\n", "#0\n" + path.read_text(), flags=re.MULTILINE)
                run = path.stem.rpartition("-")[0]
                lines = [json.loads(line.removesuffix(",")) for line in waiting.splitlines()]
                segments[run, int(number or 0)] = lines
        return [event for _, events in sorted(segments.items()) for event in events]


class RealClient(Process):
    """A client that joins as `name`, without a display or sound."""

    def __init__(self, folder: Path, server: RealServer, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        self.server = server
        self.name = name

    def start(self) -> Self:
        """Join; return when the player is in the world."""
        config = self.home / "client.conf"
        # Newer clients cannot set up post-processing without a display.
        config.write_text(
            "video_driver = null\nenable_sound = false\nmenu_clouds = false\nenable_client_modding = false\n"
            "viewing_range = 20\nfps_max = 5\nfps_max_unfocused = 5\nenable_post_processing = false\n"
        )
        self.spawn(
            [
                find(CLIENT_NAMES),
                *("--config", str(config), "--logfile", str(self.home / "client.log"), "--go"),
                *("--address", "127.0.0.1", "--port", str(self.server.port)),
                *("--name", self.name, "--password", "secret"),
            ]
        )
        wait_until(self.joined, what=f"{self.name} joins", seconds=120)
        return self

    def joined(self) -> bool:
        """Whether the player is in the world."""
        assert self.alive, self.output.read_text(errors="replace")[-2000:]
        code = f"local p = core.get_player_by_name({self.name!r}); return p ~= nil and p:get_pos().y > 0.4"
        return bool(self.server.lua(code))

    def stop(self) -> None:
        """Leave the game."""
        self.end(signal.SIGTERM, 3.0)
