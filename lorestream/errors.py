"""Every error that Lorestream raises on purpose.

    LorestreamError
    ├── Misconfigured            a setting or a file on this machine is wrong: say what to do, exit
    │   ├── ModelMissing         the embedder's model has not been prepared
    │   └── ModelMismatch        a collection was filled by another model
    ├── InvalidRequest           the caller's fault: 400, with a code and the path of the field
    │   ├── InvalidEvent         this event can never become a memory: rejected, or dead-lettered
    │   │   └── EventTooLarge    for its size alone
    │   ├── InvalidFilter        an operator, a field or a shape that filters do not have
    │   ├── InvalidToken         not a token of a write
    │   └── InvalidCursor        not a cursor of a page
    ├── OperationRefused         it would do harm as things are: 409, and nothing was changed
    └── Unavailable              an outage: retried by workers, 503 to callers
        └── Overloaded           a queue is full: 429, nothing was accepted
            └── RateLimited      the caller asks for more than it may: 429

`retryable` says whether the same call may succeed later without anybody changing anything.
"""

from typing import ClassVar


class LorestreamError(Exception):
    """The base of all errors that Lorestream raises on purpose."""

    retryable: ClassVar[bool] = False


class Misconfigured(LorestreamError):
    """Something on this machine is set up wrongly. The message is one line that says what to do."""


class ModelMissing(Misconfigured):
    """The embedder's model is not in the data directory yet."""


class ModelMismatch(Misconfigured):
    """A collection belongs to another model than the one that is configured."""


class InvalidRequest(LorestreamError):
    """What the caller sent cannot be done. `path` names the field where one is to blame."""

    code: ClassVar[str] = "invalid_request"

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path


class InvalidEvent(InvalidRequest):
    """An event that can never become a memory, whatever the state of the system."""

    code: ClassVar[str] = "invalid_event"


class EventTooLarge(InvalidEvent):
    """An event of more bytes than an event may have."""

    code: ClassVar[str] = "event_too_large"


class InvalidFilter(InvalidRequest):
    """A filter with an unknown operator, an unaskable field, or too many conditions."""

    code: ClassVar[str] = "invalid_filter"


class InvalidToken(InvalidRequest):
    """A string that is not the token of a write."""

    code: ClassVar[str] = "invalid_token"


class InvalidCursor(InvalidRequest):
    """A string that is not the cursor of a page."""

    code: ClassVar[str] = "invalid_cursor"


class OperationRefused(LorestreamError):
    """What is asked for would do harm as things are. Nothing was changed; the message says what has to come first."""


class Unavailable(LorestreamError):
    """A part that is needed cannot be reached or cannot do its work at present."""

    retryable: ClassVar[bool] = True

    def __init__(self, message: str, *, retry_after_ms: int = 1000) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms


class Overloaded(Unavailable):
    """A bounded queue is full. Nothing of the call was accepted."""


class RateLimited(Overloaded):
    """The caller's key or the agent is over its rate. Nothing of the call was done."""
