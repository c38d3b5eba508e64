"""Workers that fold one log into rows, with everything that may happen to them, against a plain fold of the log.

The log is a list of events. A worker folds batches of it; each of its writes waits for its turn, so that a crash, an
erasure or another worker can come between any two of them. A worker whose partition was revoked is a zombie: it goes on
writing later. In the end, the rows must be those of one worker that folds event by event and is never disturbed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from lorestream.adapters.in_process.erased_subjects import ErasedSubjects
from lorestream.events import DocumentWrite, Erase, ImportedRow, PolicyPart, QUpdate, StateEvent
from lorestream.memories import Erasure
from lorestream.ports import RowWriter, VectorStore
from lorestream.state.documents import ANSWER_LIFETIME_S
from lorestream.state.q_tables import QUpdateItem
from lorestream.state.rows import Row, RowKey, RowKind
from stream_workers.folding.folder import Folder
from tests.folds import LOG, manifest, state_records
from tests.rows_in_memory import MemoryRows

KEEP = 3
DAY_S = 86_400.0
AGENTS = {"a": None, "player:k1:ab": "k1:ab"}
T = TypeVar("T")


class Store(Protocol):
    """A store of rows that the machine can look into."""

    rows: RowWriter

    async def erase(self, erasure: Erasure) -> None: ...
    async def sweep(self, now: float) -> None: ...
    async def everything(self) -> dict[RowKey, Row]: ...


class InMemory:
    """`Store` over a dictionary."""

    def __init__(self) -> None:
        self.rows = MemoryRows()

    async def erase(self, erasure: Erasure) -> None:
        self.rows.erase(erasure)

    async def sweep(self, now: float) -> None:
        self.rows.sweep(now)

    async def everything(self) -> dict[RowKey, Row]:
        return dict(self.rows.stored)


class InQdrant:
    """`Store` over an adapter of Qdrant."""

    def __init__(self, store: VectorStore) -> None:
        self.rows = self._store = store

    async def erase(self, erasure: Erasure) -> None:
        await self._store.erase(erasure)

    async def sweep(self, now: float) -> None:
        await self._store.sweep(expired_before=now, tombstones_before=0.0, limit=10_000)

    async def everything(self) -> dict[RowKey, Row]:
        page, after = await self._store.scan(None, 10_000)
        assert after is None
        return {one.key: one for one in page if isinstance(one, Row)}


class _Turns:
    """A RowWriter whose writes are cut into single rows, each of which waits for its turn."""

    def __init__(self, rows: RowWriter) -> None:
        self._rows = rows
        self.turn: asyncio.Future[None] | None = None
        self.waiting = asyncio.Event()

    async def next(self) -> None:
        """Wait for the next turn."""
        self.turn = asyncio.get_running_loop().create_future()
        self.waiting.set()
        await self.turn

    async def rows(self, keys: Sequence[RowKey]) -> Sequence[Row | None]:
        await self.next()
        return await self._rows.rows(keys)

    async def put_rows(self, rows: Sequence[Row]) -> None:
        for row in rows:
            await self.next()
            await self._rows.put_rows([row])

    async def delete_rows(self, keys: Sequence[RowKey], *, log: str, offset: int) -> None:
        for key in keys:
            await self.next()
            await self._rows.delete_rows([key], log=log, offset=offset)

    async def keep_rows(self, keys: Sequence[RowKey]) -> None:
        for key in keys:
            await self.next()
            await self._rows.keep_rows([key])


@dataclass
class Worker:
    """A process that folds. Its ledger is its own: a suspended process learns of no erasure."""

    store: Store
    ledger: ErasedSubjects
    clock: Any
    log: list[StateEvent | Erase]
    source: RowWriter | None = None
    begun: int = 0
    task: asyncio.Task[int] | None = None
    turns: _Turns = field(init=False)

    def __post_init__(self) -> None:
        self.turns = _Turns(self.store.rows)

    def begin(self, first: int, limit: int) -> None:
        self.task = asyncio.get_running_loop().create_task(self._fold(first, limit))

    async def step(self) -> bool:
        """Let it go on to its next write. Returns whether its batch is done."""
        assert self.task is not None
        self.turns.waiting.clear()
        if self.turns.turn is not None:
            self.turns.turn.set_result(None)
            self.turns.turn = None
        waiting = asyncio.ensure_future(self.turns.waiting.wait())
        await asyncio.wait({self.task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return self.task.done()

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None

    async def _fold(self, first: int, limit: int) -> int:
        """Fold a batch as Pipeline.apply does: erasures first. Returns the offset to commit."""
        batch = self.log[first : first + limit]
        for event in batch:
            if isinstance(event, Erase):
                self.ledger.add(event.erasure())
                await self.turns.next()
                await self.store.erase(event.erasure())
        arrived = [
            one
            for offset, event in enumerate(batch, first)
            if not isinstance(event, Erase)
            for one in state_records(event, first=offset)
        ]
        folder = Folder(
            self.turns,  # type: ignore[arg-type]
            self.ledger,  # type: ignore[arg-type]
            self.clock,
            LOG,
            KEEP,
            row_source=lambda: self.source,
        )
        assert not (await folder.fold(arrived)).dead_letters
        return first + len(batch)


async def plain_fold(log: Sequence[StateEvent | Erase], clock: Any) -> dict[RowKey, Row]:
    """The rows that the log stands for: all erasures known, then event by event."""
    store, ledger = InMemory(), ErasedSubjects()
    for event in log:
        if isinstance(event, Erase):
            ledger.add(event.erasure())
    folder = Folder(store.rows, ledger, clock, LOG, KEEP)  # type: ignore[arg-type]
    for offset, event in enumerate(log):
        if not isinstance(event, Erase):
            await folder.fold(state_records(event, first=offset))
    return comparable(await store.everything(), clock.now())


def comparable(rows: dict[RowKey, Row], now: float) -> dict[RowKey, Row]:
    """Without what a sweep may have removed already or not, and when it would."""
    kept: dict[RowKey, Row] = {}
    for key, row in rows.items():
        lifetime = {RowKind.ANSWER: ANSWER_LIFETIME_S, RowKind.POLICY_PART: 0.0}.get(key.kind)
        if row.expires_at is None or lifetime is None or row.accepted_at + lifetime > now:
            kept[key] = replace(row, expires_at=None)
    return kept


_fields: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from("xyz"), st.integers(0, 3), max_size=2
)
_event_ids = st.one_of(st.none(), st.sampled_from(["e1", "e2"]))
_if_versions = st.one_of(st.none(), st.integers(0, 3))
_agents = st.sampled_from(list(AGENTS))
_writes = st.fixed_dictionaries(
    {
        "agent_id": _agents,
        "action": st.sampled_from(["put", "patch", "patch", "delete", "rollback"]),
        "data": _fields,
        "to": st.integers(1, 4),
        "event_id": _event_ids,
        "if_version": _if_versions,
    }
)


class FoldingMachine(RuleBasedStateMachine):
    """Subclasses say which store is folded into."""

    open_store: Callable[[], AbstractAsyncContextManager[VectorStore]] | None = None
    """None: in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.exits = AsyncExitStack()
        self.log: list[StateEvent | Erase] = []
        self.erasures: list[Erasure] = []
        self.time = 1000.0
        self.committed = self.floor = 0
        self.uploads = 0
        self.zombies: list[Worker] = []

    def now(self) -> float:
        return self.time

    @initialize()
    def begin(self) -> None:
        self.store: Store = InMemory()
        if (open_store := type(self).open_store) is not None:
            self.store = InQdrant(self._run(self.exits.enter_async_context(open_store())))
        self.worker = self._new_worker()

    def teardown(self) -> None:
        try:
            if hasattr(self, "worker"):
                self._run(self._check())
        finally:
            self._run(self.exits.aclose())
            self.runner.close()

    # --- what is appended ------------------------------------------------------------------------------

    @rule(write=_writes)
    def write_document(self, write: dict[str, Any]) -> None:
        action, agent = write["action"], write["agent_id"]
        fields = {
            "event_id": write["event_id"] or f"unique {len(self.log)}",
            "accepted_at": self._accept(),
            "agent_player": AGENTS[agent],
            "data": write["data"] if action in {"put", "patch"} else None,
            "to": write["to"] if action == "rollback" else None,
        }
        self._append(DocumentWrite(**({"tenant": "default", "type": "character"} | write | fields)))

    @rule(
        agent=_agents,
        updates=st.lists(
            st.builds(
                QUpdateItem,
                st.sampled_from(["s", "t"]),
                st.sampled_from(["go", "dig"]),
                st.sampled_from(["set", "add", "add"]),
                st.sampled_from([1.0, 2.0, 1.5e308]),
            ),
            min_size=1,
            max_size=3,
        ),
        event_id=_event_ids,
    )
    def update_q(self, agent: str, updates: list[QUpdateItem], event_id: str | None) -> None:
        self._append(
            QUpdate(
                "default",
                agent,
                "q",
                event_id or f"unique {len(self.log)}",
                tuple(updates),
                self._accept(),
                AGENTS[agent],
            )
        )

    @rule(to=st.integers(1, 4), event_id=_event_ids, if_version=_if_versions, kind=st.sampled_from("pppdr"))
    def write_policy(self, to: int, event_id: str | None, if_version: int | None, kind: str) -> None:
        action: Any = {"p": "put", "d": "delete", "r": "rollback"}[kind]
        upload = f"u{self.uploads}"
        if action == "put":
            self.uploads += 1
            for index in range(2):
                self._append(PolicyPart("default", "a", "main", upload, index, b"%d" % index, self._accept()))
        named = manifest(upload, 2)
        self._append(
            replace_fields(
                named,
                action=action,
                data=named.data if action == "put" else None,
                to=to if action == "rollback" else None,
                event_id=event_id or f"unique {len(self.log)}",
                accepted_at=self._accept(),
                if_version=if_version,
            )
        )

    @rule(version=st.integers(1, 9), age=st.sampled_from([0.5, 5.0, 50.0]))
    def import_row(self, version: int, age: float) -> None:
        at = self._accept() - age
        body = f'{{"version":{version},"created_at":{at},"updated_at":{at},"data":{{}},"oldest":{version}}}'
        self._append(ImportedRow("default", "a", "document", ("imported",), body, at, at, listed=True))

    @rule(subject=st.sampled_from(["a", "player:k1:ab", "k1:ab"]), is_known_at_once=st.booleans())
    def erase(self, subject: str, is_known_at_once: bool) -> None:
        kind: Any = "player" if subject == "k1:ab" else "agent"
        event = Erase("default", f"erasure {len(self.log)}", kind, (subject,), self._accept())
        self.erasures.append(event.erasure())
        if is_known_at_once:
            self.worker.ledger.add(event.erasure())
        self._append(event)

    # --- what happens to the workers --------------------------------------------------------------------

    @rule(limit=st.integers(1, 6), steps=st.integers(0, 40))
    def work(self, limit: int, steps: int) -> None:
        async def go() -> None:
            if self.worker.task is None:
                self.worker.begin(self.committed, limit)
            for _ in range(steps):
                if await self._step():
                    return

        self._run(go())

    @precondition(lambda self: self.worker.task is not None)
    @rule()
    def crash(self) -> None:
        self._run(self.worker.stop())
        self.worker = self._new_worker()

    @precondition(lambda self: self.worker.task is not None and len(self.zombies) < 2)
    @rule()
    def revoke(self) -> None:
        self.zombies.append(self.worker)
        self.worker = self._new_worker()

    @precondition(lambda self: self.zombies)
    @rule(which=st.integers(0, 1), steps=st.integers(1, 30))
    def zombie_writes(self, which: int, steps: int) -> None:
        async def go() -> None:
            zombie = self.zombies[which % len(self.zombies)]
            for _ in range(steps):
                if await zombie.step():
                    self.zombies.remove(zombie)
                    return

        self._run(go())

    @precondition(lambda self: self.worker.task is None)
    @rule(back=st.integers(1, 6))
    def redeliver(self, back: int) -> None:
        self.committed = max(self.floor, self.committed - back)

    @rule()
    def days_pass(self) -> None:
        """More than a part lives. What was appended before is folded, and not delivered again: no worker is away so long."""

        async def go() -> None:
            for zombie in self.zombies:
                await zombie.stop()
            await self._drain()
            self.time += 4 * DAY_S
            await self.store.sweep(self.time)

        self._run(go())
        self.zombies = []
        self.floor = self.committed

    # ----------------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def _append(self, event: StateEvent | Erase) -> None:
        self.log.append(event)

    def _accept(self) -> float:
        self.time += 1.0
        return self.time

    def _new_worker(self, store: Store | None = None, source: RowWriter | None = None) -> Worker:
        ledger = ErasedSubjects()
        for erasure in self.erasures:
            ledger.add(erasure)
        return Worker(store or self.store, ledger, self, self.log, source)

    async def _step(self) -> bool:
        if not await self.worker.step():
            return False
        assert self.worker.task is not None
        self.committed, self.worker.task = self.worker.task.result(), None
        return True

    async def _drain(self) -> None:
        while self.committed < len(self.log) or self.worker.task is not None:
            if self.worker.task is None:
                self.worker.begin(self.committed, 5)
            while not await self._step():
                pass

    async def _check(self) -> None:
        await self._drain()
        for zombie in self.zombies:
            while not await zombie.step():
                pass
        for erasure in self.erasures:  # as the indexer does for LATE_WRITE_S after each
            await self.store.erase(erasure)
        expected = await plain_fold(self.log, self)
        assert comparable(await self.store.everything(), self.time) == expected
        await self._check_replays(expected)

    async def _check_replays(self, expected: dict[RowKey, Row]) -> None:
        """From any point of the log on, a replay makes the same rows: what is older is copied.

        Not from one so long ago that the answers of that time are gone, while those before it are not in the log.
        """
        for start in {0, (self.floor + len(self.log)) // 2, self.floor}:
            first, target = start, InMemory()
            worker = self._new_worker(target, self.store.rows)
            while first < len(self.log):
                worker.begin(first, 3)
                while not await worker.step():
                    pass
                assert worker.task is not None
                first = worker.task.result()
            source = await self.store.everything()
            for key, row in source.items():  # as CarryOver does
                target.rows.stored.setdefault(key, row)
            rows = comparable(await target.everything(), self.time)
            assert {key: content(row) for key, row in rows.items()} == {
                key: content(row) for key, row in expected.items()
            }


def content(row: Row) -> tuple[Any, ...]:
    """What readers see of a row."""
    return (row.body, row.accepted_at, row.since, row.offset, row.agent_player, row.listed)


def replace_fields(event: DocumentWrite, **fields: Any) -> DocumentWrite:
    """The event with other values."""
    names = DocumentWrite.__struct_fields__
    return DocumentWrite(**({name: getattr(event, name) for name in names} | fields))
