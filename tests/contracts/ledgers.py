"""The ledgers that the suites of erasures and rewinds run over, and a memory that both are about."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from lorestream.adapters.kafka.connection import KafkaConnection
from lorestream.adapters.kafka.erasure_ledger import KafkaErasureLedger
from lorestream.adapters.sqlite.database import Database
from lorestream.adapters.sqlite.erasure_ledger import SqliteErasureLedger
from lorestream.memories import Memory
from lorestream.ports import ErasureLedger

LedgerOpener = Callable[[], AbstractAsyncContextManager[ErasureLedger]]
"""Opens the ledger. After closing, it can be opened again with the same entries."""

MEMORY = Memory(
    id="m",
    tenant="default",
    agent_id="npc:smith",
    text="A player bought a sword.",
    timestamp=50.0,
    accepted_at=100.0,
    player="k1:aa",
)


class _StoppedClock:
    def now(self) -> float:
        return 1_760_000_000.0


def sqlite_ledger(folder: Path) -> LedgerOpener:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[ErasureLedger]:
        async with Database.open(folder / "ledger.db") as database:
            yield await SqliteErasureLedger.open(database, clock=_StoppedClock())

    return opened


def kafka_ledger(bootstrap: str, prefix: str) -> LedgerOpener:
    def opened() -> AbstractAsyncContextManager[ErasureLedger]:
        return KafkaErasureLedger.open(KafkaConnection(bootstrap), topic=f"{prefix}.erasures")

    return opened
