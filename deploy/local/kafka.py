"""Real Kafka brokers: KRaft nodes, controller and broker in one process each, from the jars of `make kafka`."""

from __future__ import annotations

import base64
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.process import LOOPBACK, Child, NotInstalled, NotReady, free_port, program

HERE = Path(__file__).parents[1] / "kafka"
LIBS = HERE / "libs"
CLASSES = LIBS / "classes.jsa"
"""Class data sharing archive (CDS) of the classes that a broker loads. It halves the CPU time of a start."""
FORMATTED = LIBS / "formatted"
"""A formatted data directory. Formatting one takes a JVM of its own and a second; a copy with ids of its own is as good."""
JAVA = "apt-get install -y openjdk-17-jre-headless"


class KafkaBroker(Child):
    """One node on its own ports, alone or one of `brokers`. Its data directory is kept by `stop` and `kill`.

    `protocol` is that of the clients' listener, whose name is CLIENTS (PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL).
    `settings` are added to server.properties.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        protocol: str = "PLAINTEXT",
        settings: Mapping[str, str] | None = None,
        jvm: Sequence[str] = ("-Xmx512m",),
        node: int = 1,
        cluster_id: str | None = None,
    ) -> None:
        super().__init__("kafka" if node == 1 else f"kafka-{node}", directory)
        self.node = node
        self._cluster_id = cluster_id or _new_id()
        self.port = port or free_port()
        self.bootstrap = f"{LOOPBACK}:{self.port}"
        self.data = directory / "data"
        self.voter = f"{node}@{LOOPBACK}:{free_port()}"
        """How the node is named as a member of the quorum of controllers."""
        self.quorum = [self.voter]
        self._protocol = protocol
        self._settings = dict(settings or {})
        self._jvm = jvm
        self._config = directory / "server.properties"

    def prepare(self) -> None:
        """Write the configuration and, the first time, format the storage. Raises NotReady."""
        self._config.write_text("".join(f"{key}={value}\n" for key, value in self._properties().items()))
        if (self.data / "meta.properties").exists():
            return
        if FORMATTED.is_dir():
            shutil.copytree(FORMATTED, self.data)
            meta = self.data / "meta.properties"
            lines = meta.read_text().splitlines()
            ids = {"cluster.id": self._cluster_id, "directory.id": _new_id(), "node.id": self.node}
            kept = [line for line in lines if line.partition("=")[0] not in ids]
            meta.write_text("\n".join([*kept, *(f"{name}={one}" for name, one in ids.items()), ""]))
        else:
            self._format()

    def _format(self) -> None:
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={self._cluster_id}"]
        tool.append(f"--config={self._config}")
        done = subprocess.run(  # noqa: S603 (the command is fixed)
            [*self._java("-XX:TieredStopAtLevel=1"), *tool], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NotReady(f"kafka: formatting the storage failed:\n{done.stdout}{done.stderr}")

    def command(self) -> list[str]:
        """The command line of the broker."""
        return [
            *self._java("-XX:+ExitOnOutOfMemoryError", *self._jvm),
            "kafka.Kafka",
            str(self._config),
        ]

    def ready(self) -> bool:
        """Whether the broker has logged that it serves."""
        return self.printed(r"\] Kafka Server started")

    def _java(self, *options: str) -> list[str]:
        java = program("java", JAVA)
        if not LIBS.is_dir():
            raise NotInstalled("the jars of Kafka are not installed, run: make kafka")
        return [
            java,
            *("-Xms64m", "-XX:+UseSerialGC", *_archive(), *options),
            *(f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}", "-Dlog4j2.disable.jmx=true"),
            *("-cp", f"{LIBS}/*"),
        ]

    def _properties(self) -> dict[str, str]:
        clients = f"CLIENTS://{self.bootstrap}"
        controller = self.voter.partition("@")[2]
        copies = str(min(3, len(self.quorum)))
        return {
            **_as_deployed(),
            "node.id": str(self.node),
            "controller.quorum.voters": ",".join(self.quorum),
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "listeners": f"{clients},CONTROLLER://{controller}",
            "advertised.listeners": clients,
            "listener.security.protocol.map": f"CLIENTS:{self._protocol},CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.data),
            "offsets.topic.num.partitions": "4",
            "group.min.session.timeout.ms": "500",
            # A killed broker can register again only after its old session has timed out (9 s by default).
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **self._settings,
        }


def brokers(directory: Path, count: int) -> list[KafkaBroker]:
    """Brokers that form one Kafka. To be started together: each waits for a majority of them."""
    cluster_id = _new_id()
    nodes = [
        KafkaBroker(
            directory if node == 1 else directory.with_name(f"{directory.name}-{node}"),
            node=node,
            cluster_id=cluster_id,
        )
        for node in range(1, count + 1)
    ]
    for one in nodes:
        one.quorum = [other.voter for other in nodes]
    return nodes


def _new_id() -> str:
    """A random id in the form that Kafka uses."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _as_deployed() -> dict[str, str]:
    lines = (HERE / "server.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _archive() -> list[str]:
    """JVM options for the class archive. A JVM ignores an archive of another version without a message."""
    return (
        [f"-XX:SharedArchiveFile={CLASSES}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
        if CLASSES.exists()
        else []
    )


def archive_classes() -> None:
    """Start a broker once, and keep its class archive and formatted storage. Raises NotInstalled and NotReady."""
    CLASSES.unlink(missing_ok=True)
    shutil.rmtree(FORMATTED, ignore_errors=True)
    part = CLASSES.with_suffix(".part")
    with tempfile.TemporaryDirectory() as directory:
        broker = KafkaBroker(Path(directory), jvm=[f"-XX:ArchiveClassesAtExit={part}"])
        broker.prepare()
        formatted = shutil.copytree(broker.data, FORMATTED.with_suffix(".part"), dirs_exist_ok=True)
        broker.stop_s = 60  # it writes the archive when it stops
        broker.start().stop()
    part.rename(CLASSES)
    formatted.rename(FORMATTED)


if __name__ == "__main__":
    archive_classes()
