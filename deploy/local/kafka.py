"""A real Kafka broker: one KRaft node, controller and broker in one process, from Maven's artifacts."""

from __future__ import annotations

import base64
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.process import LOOPBACK, Child, NotInstalled, NotReady, free_port, program

HERE = Path(__file__).parents[1] / "kafka"
LIBS = HERE / "libs"
CLASSES = LIBS / "classes.jsa"
"""The JVM's archive of the classes that a broker loads: with it a start takes half the CPU time."""
JAVA = "apt-get install -y openjdk-17-jre-headless"


class KafkaBroker(Child):
    """One node on ports of its own. Its data directory outlives `stop` and `kill`.

    `protocol` is what clients speak (PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL); what that needs, and anything
    else of server.properties, comes with `settings`. The listener of clients is called CLIENTS.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        protocol: str = "PLAINTEXT",
        settings: Mapping[str, str] | None = None,
        jvm: Sequence[str] = ("-Xmx512m",),
    ) -> None:
        super().__init__("kafka", directory)
        self.port = port or free_port()
        self.bootstrap = f"{LOOPBACK}:{self.port}"
        self.data = directory / "data"
        self._controller_port = free_port()
        self._protocol = protocol
        self._settings = dict(settings or {})
        self._jvm = jvm
        self._config = directory / "server.properties"

    def prepare(self) -> None:
        """Write the configuration, and format the storage once."""
        self._config.write_text("".join(f"{key}={value}\n" for key, value in self._properties().items()))
        if (self.data / "meta.properties").exists():
            return
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={self._config}"]
        done = subprocess.run(  # noqa: S603 (the command stands here)
            [*self._java("-XX:TieredStopAtLevel=1"), *tool], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NotReady(f"kafka: the storage could not be formatted:\n{done.stdout}{done.stderr}")

    def command(self) -> list[str]:
        """The broker."""
        return [
            *self._java("-XX:+ExitOnOutOfMemoryError", *self._jvm),
            "kafka.Kafka",
            str(self._config),
        ]

    def ready(self) -> bool:
        """The broker says so once its controller lets it serve."""
        return self.printed(r"\] Kafka Server started")

    def _java(self, *options: str) -> list[str]:
        java = program("java", JAVA)
        if not LIBS.is_dir():
            raise NotInstalled("Kafka's jars are not here, type: make kafka")
        return [
            java,
            *("-Xms64m", "-XX:+UseSerialGC", *_archive(), *options),
            *(f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}", "-Dlog4j2.disable.jmx=true"),
            *("-cp", f"{LIBS}/*"),
        ]

    def _properties(self) -> dict[str, str]:
        clients = f"CLIENTS://{self.bootstrap}"
        controller = f"{LOOPBACK}:{self._controller_port}"
        return {
            **_as_deployed(),
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"{clients},CONTROLLER://{controller}",
            "advertised.listeners": clients,
            "listener.security.protocol.map": f"CLIENTS:{self._protocol},CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.data),
            "offsets.topic.num.partitions": "4",
            "group.min.session.timeout.ms": "500",
            # A broker that was killed may register again only when its old session is over (9 s by default).
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **self._settings,
        }


def _as_deployed() -> dict[str, str]:
    lines = (HERE / "server.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _archive() -> list[str]:
    """One that another JVM wrote is passed over in silence."""
    return (
        [f"-XX:SharedArchiveFile={CLASSES}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
        if CLASSES.exists()
        else []
    )


def archive_classes() -> None:
    """Start a broker once and keep what it loaded. Raises NotInstalled and NotReady."""
    CLASSES.unlink(missing_ok=True)
    part = CLASSES.with_suffix(".part")
    with tempfile.TemporaryDirectory() as directory:
        broker = KafkaBroker(Path(directory), jvm=[f"-XX:ArchiveClassesAtExit={part}"])
        broker.stop_s = 60  # it writes the archive then
        broker.start().stop()
    part.rename(CLASSES)


if __name__ == "__main__":
    archive_classes()
