"""Errors of the stand-in as gRPC statuses, and the check for fields that it does not implement."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message


class RequestError(Exception):
    """Ends a call with a status other than OK."""

    def __init__(
        self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.trailing = trailing


def invalid(details: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, f"Wrong input: {details}")


def not_found(name: str) -> RequestError:
    return RequestError(grpc.StatusCode.NOT_FOUND, f"Not found: Collection `{name}` doesn't exist!")


def unimplemented(what: str) -> RequestError:
    return RequestError(grpc.StatusCode.UNIMPLEMENTED, f"the stand-in does not implement {what}")


def allow_fields(message: Message, *fields: str) -> None:
    """Raise UNIMPLEMENTED if any other field of the message is set."""
    for field, _ in message.ListFields():
        if field.name not in fields:
            raise unimplemented(f"{message.DESCRIPTOR.name}.{field.name}")
