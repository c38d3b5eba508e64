"""Take the mod's screenshot in a real game, with a real service: `make mod-screenshot`.

A server with minetest_game and tests/luanti/scene runs beside `lorestream up`. A client joins on an X server without a screen
(Xvfb, software rendering). Two questions are typed into its chat (xdotool); the answers are memories that the service found.
Then the screen is saved.

    apt-get install -y xvfb xdotool scrot pngquant libgl1-mesa-dri minetest minetest-server
    python -m tests.luanti.screenshot producers/luanti/lorestream/screenshot.png
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.luanti.server import CLIENT_NAMES, HERE, Process, RealServer, find, wait_until
from tests.processes import LorestreamProcess

SIZE = (1296, 864)
NAME = "Ann"
QUESTIONS = ("Baker, when can I buy bread again?", "Baker, where do sweet berries grow?")
COLOURS = "128"
DISPLAY = ":97"


def run(*command: str) -> None:
    """Run a program on the X server."""
    subprocess.run(command, env={"DISPLAY": DISPLAY, "PATH": "/usr/bin:/bin"}, check=True, timeout=60)


class Window(Process):
    """A client in a window on the X server `DISPLAY`, as large as the screenshot."""

    def __init__(self, folder: Path, server: RealServer) -> None:
        folder.mkdir(parents=True)
        super().__init__(folder)
        self.server = server

    def start(self) -> None:
        """Join; return when the player is in the world."""
        config = self.home / "client.conf"
        config.write_text(
            f"screen_w = {SIZE[0]}\nscreen_h = {SIZE[1]}\nenable_sound = false\n"
            "viewing_range = 60\nfps_max = 10\nfps_max_unfocused = 10\nsmooth_lighting = true\nchat_font_size = 20\n"
            "video_driver = opengl\nenable_fog = false\nopaque_water = false\nleaves_style = fancy\nshow_debug = false\n"
        )
        self.spawn(
            [
                find(CLIENT_NAMES),
                *("--config", str(config), "--logfile", str(self.home / "client.log"), "--go"),
                *(
                    "--address",
                    "127.0.0.1",
                    "--port",
                    str(self.server.port),
                    "--name",
                    NAME,
                    "--password",
                    "x",
                ),
            ],
            DISPLAY=DISPLAY,
            LIBGL_ALWAYS_SOFTWARE="1",
        )
        code = f"local p = core.get_player_by_name({NAME!r}); return p ~= nil and p:get_pos().y > 0.4"
        wait_until(lambda: self.server.lua(code), what="the player joins", seconds=120)

    def press(self, key: str) -> None:
        """Press a key for longer than a frame takes."""
        self.xdotool("keydown", key, "sleep", "0.5", "keyup", key)

    def say(self, text: str) -> None:
        """Type a line into the chat."""
        self.press("t")
        time.sleep(2)
        self.xdotool("type", "--delay", "150", text)
        self.press("Return")

    def xdotool(self, *arguments: str) -> None:
        """Run xdotool with the window in focus: there is no window manager that would give it the focus."""
        run("xdotool", "search", "--name", "Minetest|Luanti", "windowfocus", *arguments)


def take(target: Path, folder: Path) -> None:
    """Play the scene, and write its picture."""
    service = LorestreamProcess(folder / "data", {})
    server = RealServer(
        folder / "server",
        service.url,
        settings={"time_speed": "0", "world_start_time": "9500", "lorestream.server": "village"},
        mods=(HERE / "scene",),
    )
    window = Window(folder / "client", server)
    try:
        service.start()
        server.start()
        window.start()
        server.lua(
            "scene_memories() core.set_timeofday(0.42) local at = {x = 0, y = 20, z = 0} "
            "core.emerge_area(vector.subtract(at, 40), vector.add(at, 40), function(_, _, left) if left == 0 then "
            f"scene_build(at) local p = core.get_player_by_name({NAME!r}) p:set_pos({{x = 0.4, y = 20.5, z = 0.5}}) "
            "p:set_look_horizontal(0) p:set_look_vertical(-0.02) "
            "p:hud_set_flags({hotbar = false, healthbar = false, breathbar = false, crosshair = false, wielditem = false, "
            "minimap = false}) done(true) end end)",
            seconds=120,
        )
        wait_until(
            lambda: server.lua("return lorestream.status().spooled == 0"), what="the memories", seconds=60
        )
        time.sleep(20)  # the client loads and draws the scene
        for question in QUESTIONS:
            window.say(question)
            time.sleep(5)
        picture = folder / "screen.png"
        run("scrot", str(picture))
        run("pngquant", "--force", "--speed", "1", "--output", str(target), COLOURS, str(picture))
    finally:
        window.end(signal.SIGTERM, 3.0)
        server.stop()
        service.kill()


def main() -> None:
    """Take the screenshot into the file that is named."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        screen = Process(folder)
        screen.spawn(
            [
                shutil.which("Xvfb") or "Xvfb",
                DISPLAY,
                "-screen",
                "0",
                f"{SIZE[0]}x{SIZE[1]}x24",
                "-nolisten",
                "tcp",
            ]
        )
        try:
            take(Path(sys.argv[1]).absolute(), folder)
        finally:
            screen.end(signal.SIGTERM)


if __name__ == "__main__":
    main()
