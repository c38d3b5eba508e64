"""The exceptions that Lorestream raises on purpose.

    LorestreamError
    ├── Misconfigured            a setting or a file of this machine is wrong: the process exits with the message
    │   ├── ModelMissing         the embedding model is not prepared
    │   └── ModelMismatch        the collection was filled by another embedding model
    ├── InvalidRequest           the request is wrong: 400, with a code and the path of the field
    │   ├── InvalidEvent         the event can never become a memory: rejected, or a dead letter
    │   │   └── EventTooLarge    only because of its size
    │   ├── InvalidFilter        an unknown operator or field, or a malformed filter
    │   ├── OverBudget           a read that would take too much work, such as a costly filter over many memories
    │   │   └── TooManyRecords   an aggregate over more records than it may read
    │   ├── InvalidToken         not the token of a write
    │   └── InvalidCursor        not the cursor of a page
    ├── OperationRefused         the operation would lose or damage data in the current state: 409, nothing changed
    └── Unavailable              an outage: workers retry, callers get 503
        └── Overloaded           a queue is full: 429, nothing was accepted
            └── RateLimited      the caller is over its rate limit: 429, nothing was done

`retryable` says whether the same call may succeed later without any correction.
"""

from typing import ClassVar


class LorestreamError(Exception):
    """The base class of all errors that Lorestream raises on purpose."""

    retryable: ClassVar[bool] = False


class Misconfigured(LorestreamError):
    """A setting or a file of this machine is wrong. The message is one line that says what to do."""


class ModelMissing(Misconfigured):
    """The embedding model is not prepared yet."""


class ModelMismatch(Misconfigured):
    """A collection was filled by another embedding model than the configured one."""


class InvalidRequest(LorestreamError):
    """The request is wrong and can never succeed. `path` names the invalid field, if there is one."""

    code: ClassVar[str] = "invalid_request"

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path


class InvalidEvent(InvalidRequest):
    """An event that can never become a memory, in any state of the system."""

    code: ClassVar[str] = "invalid_event"


class EventTooLarge(InvalidEvent):
    """An event that is larger than the limit."""

    code: ClassVar[str] = "event_too_large"


class InvalidFilter(InvalidRequest):
    """A filter with an unknown operator, a field that filters cannot name, or too many conditions."""

    code: ClassVar[str] = "invalid_filter"


class OverBudget(InvalidRequest):
    """A read that would take more work than one request may cause. Nothing was done."""

    code: ClassVar[str] = "over_budget"


class TooManyRecords(OverBudget):
    """An aggregate over more records than one may read. Nothing was done."""

    code: ClassVar[str] = "too_many_records"


class InvalidToken(InvalidRequest):
    """A string that is not the token of a write."""

    code: ClassVar[str] = "invalid_token"


class InvalidCursor(InvalidRequest):
    """A string that is not the cursor of a page."""

    code: ClassVar[str] = "invalid_cursor"


class OperationRefused(LorestreamError):
    """The operation would lose or damage data in the current state.

    Nothing was changed; the message says what to do first.
    """


class Unavailable(LorestreamError):
    """A part that is needed cannot be reached, or cannot do its work at present."""

    retryable: ClassVar[bool] = True

    def __init__(self, message: str, *, retry_after_ms: int = 1000) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms


class Overloaded(Unavailable):
    """A bounded queue is full. Nothing of the request was accepted."""


class RateLimited(Overloaded):
    """The caller's key or the agent is over its rate limit. Nothing of the request was done."""
