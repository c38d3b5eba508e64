"""The messages and stubs of Qdrant's gRPC interface, which are those of qdrant-client.

`import qdrant_client` also builds the pydantic models of its REST client, which takes ten times as long as the gRPC
part (over a second of CPU time) and which nothing here uses. So only the subpackage `qdrant_client.grpc` is loaded. A
later `import qdrant_client` by other code works as usual.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdrant_client import grpc as wire

__all__ = ["wire"]


def _load() -> ModuleType:
    if "qdrant_client" in sys.modules:
        return importlib.import_module("qdrant_client.grpc")
    found = importlib.util.find_spec("qdrant_client")
    if found is None:
        raise ModuleNotFoundError("No module named 'qdrant_client'", name="qdrant_client")
    # The parent package, without running its __init__.py.
    sys.modules["qdrant_client"] = importlib.util.module_from_spec(found)
    try:
        return importlib.import_module("qdrant_client.grpc")
    finally:
        del sys.modules["qdrant_client"]


if not TYPE_CHECKING:
    wire = _load()
