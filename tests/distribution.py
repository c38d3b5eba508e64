"""How the tests are distributed over the processes of pytest-xdist: by scope, and so that a process that dies stops nothing.

pytest-xdist 3.8 waits for ever after such a death: it distributes the scopes that the dead process had finished once
more, without tests, and a process that holds one test runs it only when it is given a further one or told to end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController


class ByScope(LoadScopeScheduling):
    """Gives whole scopes to the processes. `scope` gives the scope of a file; the tests of one scope run in one process."""

    def __init__(self, config: pytest.Config, log: Any, scope: Callable[[str], str]) -> None:
        super().__init__(config, log)
        self._scope = scope

    def _split_scope(self, nodeid: str) -> str:
        return self._scope(nodeid.partition("::")[0])

    def remove_node(self, node: WorkerController) -> str | None:
        """Return the test during which a process died (None: it had ended); others take over the tests after that one."""
        workload = self.assigned_work.pop(node)
        left = [(unit, nodeid) for unit in workload.values() for nodeid, done in unit.items() if not done]
        if not left:
            return None
        unit, died_in = left[0]
        unit[died_in] = True  # it has failed; run again, it could end one process after the other
        self.workqueue.update({scope: unit for scope, unit in workload.items() if not all(unit.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return died_in

    def _reschedule(self, node: WorkerController) -> None:
        super()._reschedule(node)
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)  # gives it another scope, or tells it to end
