"""How the stand-in says no: a gRPC status, and a look whether a message holds anything it does not know."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message


class Refused(Exception):
    """A call that ends with a status other than OK."""

    def __init__(
        self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.trailing = trailing


def invalid(details: str) -> Refused:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, f"Wrong input: {details}")


def not_found(name: str) -> Refused:
    return Refused(grpc.StatusCode.NOT_FOUND, f"Not found: Collection `{name}` doesn't exist!")


def unknown(what: str) -> Refused:
    return Refused(grpc.StatusCode.UNIMPLEMENTED, f"the stand-in does not know {what}")


def only(message: Message, *fields: str) -> None:
    """Refuse a message in which any other field is set."""
    for field, _ in message.ListFields():
        if field.name not in fields:
            raise unknown(f"{message.DESCRIPTOR.name}.{field.name}")
