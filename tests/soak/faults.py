"""The faults of a long run: kills, partitions, a full disk, another password, a clock that jumps.

At most two faults are open at a time: a fault is open until a round of the canary that began after its end has
succeeded. The time from its end to the end of that round is its time to heal.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from deploy.local.process import Child, NotReady
from tests.soak.deployment import MOVABLE_CLOCKS, Deployment
from tests.soak.load import Sent

OPEN_AT_ONCE = 2
GIVE_UP_S = 180.0
"""A fault that has not healed by then does not hold up the others."""
LONGEST_DOWN_S = 2.0
LONGEST_PARTITION_S = 8.0
FULL_S = 8.0
JUMP_DAYS, JUMP_S = 70, 9.0
WEIGHTS = {"kafka": 1, "redis": 2, "qdrant-stand-in": 2, "nginx": 2}
"""How often a part is killed, in proportion; services 3."""


@dataclass
class Fault:
    """One fault. Times are monotonic seconds."""

    kind: str
    what: str
    began: float
    ended: float | None = None
    note: str = ""


class Disk:
    """A small file system in memory. It can be filled. `problem`: why there is none."""

    def __init__(self, place: Path, size: int) -> None:
        self._place = place
        place.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)],
            capture_output=True,
            text=True,
            check=False,
        )
        self.problem = done.stderr.strip() if done.returncode else None

    @contextlib.contextmanager
    def full(self) -> Any:
        filler = self._place / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:  # until there is no space left
                file.write(bytes(2**20))
        try:
            yield
        finally:
            filler.unlink()

    def close(self) -> None:
        if self.problem is None:
            subprocess.run(["umount", "-l", str(self._place)], check=False)


class Faults:
    """Runs `kills` kills, `partitions` partitions and one of each other fault, spread over `seconds`."""

    def __init__(
        self,
        deployment: Deployment,
        sent: Sent,
        disk: Disk,
        *,
        kills: int,
        partitions: int,
        seconds: float,
        seed: int,
    ) -> None:
        self.all: list[Fault] = []
        self.restarts: Counter[str] = Counter()
        """Processes that ended by themselves and were started again: name and exit code."""
        self.errors: list[str] = []
        """Faults that could not be carried out."""
        self._deployment = deployment
        self._sent = sent
        self._disk = disk
        self._seconds = seconds
        self._chance = random.Random(seed)
        self._held: set[str] = set()
        """Parts that a fault keeps down, or cuts off: no other fault chooses them."""
        self._lock = threading.Lock()
        self._over = threading.Event()
        parts = deployment.parts
        names = list(parts)
        weights = [WEIGHTS.get(name, 3) for name in names]
        chosen = self._chance.choices(names, weights, k=kills)
        actions: list[Callable[[], None]] = [partial(self._kill, name) for name in chosen]
        for number in range(partitions):
            if number % 3 == 0:
                actions.append(partial(self._freeze, self._chance.choice(names)))
            else:
                actions.append(partial(self._cut, self._chance.choice(deployment.links)))
        self._chance.shuffle(actions)
        alone: list[Callable[[], None]] = [self._fill_disk, self._rotate_password]
        alone += [partial(self._move_clock, service) for service in MOVABLE_CLOCKS]
        step = len(actions) / (len(alone) + 1)
        self._alone = set(alone)
        for number, action in enumerate(alone):
            actions.insert(int(step * (number + 1)) + number, action)
        self._actions = actions
        self.begun = 0.0
        """The share of the faults that have begun."""

    def run(self) -> None:
        """Run all faults. Ends when the last has healed, after `GIVE_UP_S`, or soon after `stop`."""
        keeper = threading.Thread(target=self._keep_running, daemon=True)
        keeper.start()
        began = time.monotonic()
        threads: list[threading.Thread] = []
        for number, action in enumerate(self._actions):
            self._over.wait(max(0.0, began + self._seconds * number / len(self._actions) - time.monotonic()))
            alone = action in self._alone
            self._wait_until_open(0 if alone else OPEN_AT_ONCE - 1)
            if self._over.is_set():
                return
            self.begun = (number + 1) / len(self._actions)
            if alone:
                self._carry_out(action)
                self._wait_until_open(0)
                continue
            thread = threading.Thread(target=self._carry_out, args=[action], daemon=True)
            thread.start()
            threads.append(thread)
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        self._wait_until_open(0)
        self._over.set()
        keeper.join()

    def stop(self) -> None:
        """Begin no more faults, and start no process again."""
        self._over.set()

    def _carry_out(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 (it belongs in the report)
            self.errors.append(repr(error))

    def healed_after(self, fault: Fault) -> float | None:
        """Seconds from the end of the fault to the end of the first canary round that began after it."""
        ended = fault.ended
        if ended is None:
            return None
        return next((done - ended for begun, done in self._sent.canaries if begun >= ended), None)

    def _wait_until_open(self, most: int) -> None:
        deadline = time.monotonic() + GIVE_UP_S
        while time.monotonic() < deadline and not self._over.is_set():
            if sum(self.healed_after(fault) is None for fault in self.all[-10:]) <= most:
                return
            time.sleep(0.1)

    def _keep_running(self) -> None:
        """Start what has ended by itself, as whatever runs the services does."""
        while not self._over.wait(0.5):
            with self._lock:
                for name, part in self._deployment.parts.items():
                    if name not in self._held and not part.alive:
                        self.restarts[f"{name} ended with {part.exit_code}"] += 1
                        part.spawn()

    @contextlib.contextmanager
    def _holding(self, kind: str, what: str, *names: str) -> Any:
        while True:
            with self._lock:
                if not self._held & set(names):
                    self._held |= set(names)
                    break
            time.sleep(0.1)
        fault = Fault(kind, what, time.monotonic())
        self.all.append(fault)
        try:
            yield fault
        finally:
            fault.ended = fault.ended or time.monotonic()
            with self._lock:
                self._held -= set(names)

    # --- the kinds -------------------------------------------------------------------------------------------

    def _kill(self, name: str) -> None:
        part = self._deployment.parts[name]
        with self._holding("kill", name, name):
            kill(part)
            time.sleep(self._chance.random() * LONGEST_DOWN_S)
            part.spawn()

    def _freeze(self, name: str) -> None:
        part = self._deployment.parts[name]
        with self._holding("freeze", name, name):
            part.pause()
            time.sleep(1 + self._chance.random() * (LONGEST_PARTITION_S - 1))
            part.resume()

    def _cut(self, link: str) -> None:
        with self._holding("cut", link):
            self._deployment.cut(link)
            time.sleep(1 + self._chance.random() * (LONGEST_PARTITION_S - 1))
            self._deployment.heal(link)

    def _fill_disk(self) -> None:
        kafka = self._deployment.cluster.kafka
        with self._holding("full disk", "kafka", "kafka") as fault:
            if self._disk.problem is not None:
                fault.note = f"not possible here: {self._disk.problem}"
                return
            with self._disk.full():
                time.sleep(FULL_S)
                gateway = next(each for each in self._deployment.cluster.gateways if each.alive)
                with contextlib.suppress(httpx2.TransportError):
                    answer = httpx2.get(f"{gateway.url}/ready", timeout=5)
                    fault.note = f"/ready of {gateway.name}: {answer.status_code} {answer.text}"
            fault.note += "; the broker " + ("ran on" if kafka.alive else f"ended with {kafka.exit_code}")
            if not kafka.alive:
                kafka.spawn()

    def _rotate_password(self) -> None:
        """Redis gets a password while it runs and its connections are closed; then each service is given it in turn."""
        cluster = self._deployment.cluster
        services = cluster.services
        with self._holding("password", "redis", "redis", *(each.name for each in services)) as fault:
            password = f"rotated{self._chance.randrange(10**9)}"
            cluster.redis.send_command(f"CONFIG SET requirepass {password}")
            cluster.redis.password = password
            cluster.redis.send_command("CLIENT KILL TYPE normal")
            time.sleep(4)
            self._deployment.log_in_with(password)
            for service in services:
                service.stop()
                service.spawn()
                with contextlib.suppress(NotReady):
                    service.wait_ready(60)
            fault.note = "every service was restarted with it in turn"

    def _move_clock(self, service: str) -> None:
        with self._holding("clock", f"{service}, {JUMP_DAYS} days ahead", service):
            self._deployment.set_clock(service, JUMP_DAYS * 86_400)
            time.sleep(JUMP_S)
            self._deployment.set_clock(service, 0)


def kill(part: Child) -> None:
    """Kill the process and its children, such as the workers of nginx."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(part.pid, signal.SIGKILL)
    part.kill()
