"""Answers requests that cannot be decoded with INVALID_ARGUMENT; gRPC itself would answer UNKNOWN or INTERNAL."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

MAX_DETAIL_BYTES = 1024
"""Longer error messages are cut: they travel in headers, which clients limit to 8 KiB, percent-encoded."""


class DecodeErrors(grpc.aio.ServerInterceptor):
    """Checks the requests of every call, also those of streams.

    `refuse_first(method, context)` is awaited before a request is answered as invalid. It may abort the call with
    another status: a caller without a key gets only UNAUTHENTICATED. `method` is the path `/SERVICE/METHOD`.
    """

    def __init__(self, refuse_first: Callable[[str, Any], Awaitable[None]]) -> None:
        self._refuse_first = refuse_first

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of the call, behind the check."""
        handler: Any = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        checked = _Checked(handler, handler_call_details.method, self._refuse_first)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                checked.unary_unary, checked.decode, handler.response_serializer
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                checked.unary_stream, checked.decode, handler.response_serializer
            )
        return grpc.stream_stream_rpc_method_handler(
            checked.stream_stream, checked.decode, handler.response_serializer
        )


class _Checked:
    """The methods of a handler, behind a check of each request. `Any`: the types of grpc and grpc.aio differ."""

    def __init__(
        self,
        handler: Any,  # noqa: ANN401
        method: str,
        refuse_first: Callable[[str, Any], Awaitable[None]],
    ) -> None:
        self._handler = handler
        self._method = method
        self._refuse_first = refuse_first

    def decode(self, data: bytes) -> object:
        """The request, None if it cannot be decoded."""
        try:
            return self._handler.request_deserializer(data)
        except DecodeError:
            return None

    async def unary_unary(self, request: object, context: Any) -> object:  # noqa: ANN401
        return await self._handler.unary_unary(await self._check(request, context), context)

    async def unary_stream(self, request: object, context: Any) -> None:  # noqa: ANN401
        await _write(self._handler.unary_stream(await self._check(request, context), context), context)

    async def stream_stream(self, requests: AsyncIterator[object], context: Any) -> None:  # noqa: ANN401
        checked = (await self._check(request, context) async for request in requests)
        await _write(self._handler.stream_stream(checked, context), context)

    async def _check(self, request: object, context: Any) -> object:  # noqa: ANN401
        if request is None:
            await self._refuse_first(self._method, context)
            await abort(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                "the request cannot be decoded as a message of this call",
            )
        return request


async def _write(answers: Any, context: Any) -> None:  # noqa: ANN401
    """Write the answers of a stream: those of an iterator, or of a coroutine that writes them itself."""
    if inspect.isawaitable(answers):
        await answers
        return
    async for answer in answers:
        await context.write(answer)


async def abort(context: grpc.aio.ServicerContext[Any, Any], code: grpc.StatusCode, message: str) -> NoReturn:
    """End the call with this status and message, which is cut to MAX_DETAIL_BYTES."""
    encoded = message.encode(errors="replace")
    if len(encoded) > MAX_DETAIL_BYTES:
        message = encoded[:MAX_DETAIL_BYTES].decode(errors="ignore") + "..."
    await context.abort(code, message)
    raise AssertionError("abort does not return")
