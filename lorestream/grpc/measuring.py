"""Counts the calls of MemoryService by the code of their answer, and makes their spans."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from lorestream.telemetry import Metrics
from lorestream.tracing import TRACEPARENT, RequestSpan


class MeasureCalls(grpc.aio.ServerInterceptor):
    """The first interceptor: it sees what the others answer. `service`: the name of the service that is measured."""

    def __init__(self, service: str, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of the call, inside the measurement."""
        handler: Any = await continuation(handler_call_details)
        service, _, method = handler_call_details.method[1:].rpartition("/")
        if handler is None or handler.unary_unary is None or service != self._service:
            return handler

        async def measured(request: object, context: grpc.aio.ServicerContext[Any, Any]) -> object:
            done = False
            with self._span(f"{service}/{method}", context) as span:
                try:
                    answer = await handler.unary_unary(request, context)
                    done = True
                finally:
                    # The context has the number 0 where no code was set.
                    code = grpc.StatusCode.OK if done else context.code() or grpc.StatusCode.UNKNOWN
                    self._metrics.grpc_requests.labels(method, code.name).inc()
                    if span is not None:
                        span.note("rpc.response.status_code", code.name)
            return answer

        return grpc.unary_unary_rpc_method_handler(
            measured, handler.request_deserializer, handler.response_serializer
        )

    def _span(
        self, name: str, context: grpc.aio.ServicerContext[Any, Any]
    ) -> contextlib.AbstractContextManager[RequestSpan | None]:
        tracer = self._metrics.tracer
        if tracer is None:
            return contextlib.nullcontext()
        given = [value for key, value in context.invocation_metadata() or () if key == TRACEPARENT]
        return tracer.request(name, str(given[0]) if given else None)
