"""The OpenAPI document is valid and complete: Schemathesis makes requests from it, and every response is documented.

What it asks is drawn anew from the document, the same at every run. No more than EXAMPLES calls of a kind are drawn
for each operation, none is shrunk, and PUT, which is POST, is left out: the time goes into drawing them, not into
answering.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.failures import FailureGroup
from schemathesis.schemas import APIOperation, BaseSchema
from starlette.routing import Route

from lorestream.access.authentication import Forbidden, Unauthenticated
from lorestream.errors import InvalidFilter, LorestreamError, Overloaded, RateLimited, Unavailable
from lorestream.http.docs_page import DocsPage
from lorestream.http.errors import error_response
from lorestream.http.openapi import openapi_document
from lorestream.http.other_service import READS
from lorestream.http.request import MAX_BODY_BYTES, HttpError
from producers import gateway as writes
from producers.gateway import Gateway
from query_service import rest as reads
from query_service.recall import CurrentRecall
from tests.conformance import CONFORMANCE
from tests.parts import open_parts
from tests.whole_app import BASE_URL, open_app

AGENT = "npc:woodcutter-1"
TEXT = "pine trees stand north of the lake"
EXAMPLES = 5

REJECTION = CHECKS.get_by_names(["negative_data_rejection"])
BY_ID = {
    "/v1/erasures/{erasure_id}",
    "/v1/rewinds/{id}",
    "/v1/webhooks/{id}",
    "/v1/webhooks/{id}/resume",
    "/v1/webhooks/{id}/test",
}
"""Routes that need the id of something that a request before them has made."""
ONE_BY_ONE = {"/v1/events", "/v1/memories/search/batch"}
"""Routes that answer with success although one of several items is invalid."""

BOUNDED = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
GENERATED = Path(__file__).parents[2] / "clients" / "typescript" / "src" / "openapi.ts"
TEXTS = {"description", "summary", "example", "examples", "title"}
FILTERS = [
    {"type": "dig"},
    {"tick": {"gte": 1, "lt": 2.5}, "NOT": {"node": ["default:stone"]}},
    {"OR": [{"metadata.count": {"exists": True}}, {"pos.x": {"gt": 0}}]},
]


@dataclass
class Up:
    """The application of `lorestream up` in this process; the worker runs during requests."""

    runner: asyncio.Runner
    http: httpx2.AsyncClient
    app: Any
    document: dict[str, Any]
    api: BaseSchema

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self.runner.run(self.http.request(method, path, **options))

    def ask(self, case: Case) -> httpx2.Response:
        sent = requests.Request(**case.as_transport_kwargs(base_url=BASE_URL)).prepare()
        return self.request(
            str(sent.method), str(sent.url), headers=dict(sent.headers), content=sent.body or b""
        )

    def remember(self) -> tuple[str, str]:
        """Write memories and wait until they can be found; returns a memory id of AGENT, and the token of its write."""
        event = {
            "agent_id": AGENT,
            "type": "dig",
            "data": {"node": "default:pine_tree", "count": 2},
            "tick": 2,
        }
        event |= {
            "player": "singleplayer",
            "pos": {"x": 12.0},
            "text": TEXT,
            "metadata": {"deep": [{"a": None}]},
        }
        answer = self.request("POST", "/v1/events?wait=indexed", json={"events": [event]})
        assert answer.status_code == 200, answer.text
        return answer.json()["ids"][0], answer.json()["token"]

    def operations(self) -> list[APIOperation]:
        """All operations but PUT; those that delete come last."""
        found = [result.ok() for result in self.api.get_all_operations()]
        asked = [one for one in found if one.method != "put"]
        return sorted(asked, key=lambda one: "Deletions" in one.tags or one.path == "/memory/delete")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with asyncio.Runner() as runner:
        serving = serve(runner, tmp_path_factory.mktemp("data"))
        yield runner.run(anext(serving))
        runner.run(anext(serving, None))


async def serve(runner: asyncio.Runner, data: Path) -> AsyncGenerator[Up]:
    async with open_app(data) as opened:
        found = (await opened.http.get("/openapi.json")).json()
        yield Up(runner, opened.http, opened.asgi, found, schemathesis.openapi.from_dict(deepcopy(found)))


# --- what is answered ------------------------------------------------------------------------------------


def test_valid_requests_are_answered_as_documented(up: Up) -> None:
    for operation in up.operations():
        draw(operation.as_strategy(), lambda case: conforming(up, case))


def test_invalid_requests_are_refused_as_documented(up: Up) -> None:
    for operation in up.operations():
        takes = operation.path_parameters or operation.query or operation.body
        if not takes or operation.path in BY_ID:
            continue  # nothing can be wrong in it
        checks = CONFORMANCE if operation.path in ONE_BY_ONE else [*CONFORMANCE, *REJECTION]
        strategy = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
        draw(strategy, lambda case, checks=checks: conforming(up, case, checks))


def test_responses_with_memories_are_as_documented(up: Up) -> None:
    """Random requests find nothing; here they are changed so that they match existing memories."""
    written = up.remember()
    for operation in up.operations():
        if "Reads" not in operation.tags and operation.path != "/memory/get":
            continue
        strategy = st.builds(adapted, operation.as_strategy(), st.just(written), st.sampled_from(FILTERS))
        seen: list[httpx2.Response] = []
        draw(strategy, lambda case, seen=seen: seen.append(conforming(up, case)))
        assert {answer.status_code for answer in seen} == {200}, (operation.label, [one.text for one in seen])
        shows_none = "/memories" not in operation.path or operation.path == "/v1/memories/places"
        assert any(TEXT in answer.text for answer in seen) or shows_none


def draw(strategy: st.SearchStrategy[Case], check: Callable[[Case], object]) -> None:
    @BOUNDED
    @given(strategy)
    def ask(case: Case) -> None:
        check(case)

    ask()


def conforming(up: Up, case: Case, checks: Sequence[Any] = CONFORMANCE) -> httpx2.Response:
    answer = up.ask(case)
    case.validate_response(answer, checks=list(checks))
    return answer


def adapted(case: Case, written: tuple[str, str], filters: dict[str, Any]) -> Case:
    memory_id, token = written
    for part in (case.path_parameters, case.query):
        part |= {name: value for name, value in (("agent_id", AGENT), ("id", memory_id)) if name in part}
    case.query.pop("cursor", None)
    if "filters" in case.query:
        case.query["filters"] = json.dumps(filters)
    if not isinstance(case.body, dict):
        return case
    batch = case.path.endswith("/batch")
    for context in case.body.get("contexts") or ():
        context["agent_id"] = AGENT
    for body in (case.body.get("searches") or ()) if batch else [case.body]:
        body |= {name: value for name, value in (("filters", filters), ("after", token)) if name in body}
        if case.path == "/memory/get":
            body |= {"agent_id": AGENT, "query": "pine trees", "query_text": None}
        elif case.path == "/v1/memories/get":
            body |= {"agent_id": AGENT, "ids": [memory_id]}
        elif "aggregate" in case.path:
            body |= {"field": "count", "every_ticks": None}
        elif case.path == "/v1/memories/places":
            body |= {"agent_id": AGENT, "agent_ids": None, "scope": None, "y_to": None}
        elif "search" in case.path or case.path in {"/v1/memories/explain", "/v1/memories/likeness"}:
            body |= {"agent_id": AGENT, "agent_ids": None, "scope": None}
            body |= {name: None for name in ("type", "since", "until") if name in body}
            if "id" in body:
                body["id"] = memory_id
            if body.get("near"):
                body["near"]["x"] = 12.0
            if body.get("mode"):
                body |= {"query": "pine trees", "weights": None}
            if body.get("rerank"):
                body["query"] = "pine trees"
            if body.get("weights"):
                body["weights"]["recency"] = 1.0
    return case


def test_every_example_is_answered_as_shown(up: Up) -> None:
    memory_id, _ = up.remember()
    for operation in up.operations():
        described = up.document["paths"][operation.path][operation.method]
        given_in = {"path": {}, "query": {}}
        for one in described["parameters"]:
            if "example" in one:
                given_in[one["in"]][one["name"]] = one["example"]
        options = {}
        for kind, media in described.get("requestBody", {}).get("content", {}).items():
            assert "example" in media or kind == "application/octet-stream", operation.label
            options = {"body": media.get("example", b"any bytes")}
        if operation.path == "/v1/memories/{id}":
            given_in["path"]["id"] = memory_id
        if operation.path == "/v1/memories/explain":
            options["body"] = {**options["body"], "id": memory_id}
        if operation.path.startswith("/v1/policies/{id}") and operation.method == "get":
            wanted = "format=raw&wait=applied&event_id=survival-1%3A8412"
            up.request("PUT", f"/v1/policies/{AGENT}?{wanted}", content=b"any bytes")
        case = operation.Case(path_parameters=given_in["path"], query=given_in["query"], **options)
        answer = up.ask(case)
        case.validate_response(answer, checks=CONFORMANCE)
        assert answer.status_code < 300 or operation.path in BY_ID, operation.label
        for response in described["responses"].values():
            for kind, shown in response.get("content", {}).items():
                if kind == "text/event-stream":
                    data = shown["example"].splitlines()[-2].removeprefix("data: ")
                    validator(up.document, shown["schema"]["contentSchema"]).validate(json.loads(data))
                elif "example" in shown:
                    validator(up.document, shown["schema"]).validate(shown["example"])
                    assert set(shown["example"]) >= set(answer.json()) or answer.status_code >= 300


def validator(found: dict[str, Any], schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**schema, "components": found["components"]})


def test_errors_for_large_bodies_and_unknown_encodings_are_documented(up: Up) -> None:
    case = up.api["/v1/events"]["post"].Case(body={"events": []})
    for expected, options in (
        (413, {"content": b" " * (MAX_BODY_BYTES + 1)}),
        (413, {"json": {"events": [{}] * 1001}}),
        (415, {"content": b"{}", "headers": {"Content-Encoding": "br"}}),
    ):
        answer = up.request("POST", "/v1/events", **options)
        assert answer.status_code == expected
        case.validate_response(answer, checks=CONFORMANCE)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (InvalidFilter("x", path="filters.a"), "BadRequest"),
        (HttpError(400, "invalid_json", "x"), "BadRequest"),
        (Unauthenticated("x"), "Unauthorized"),
        (Forbidden("x"), "Forbidden"),
        (HttpError(404, "not_found", "x"), "NotFound"),
        (HttpError(413, "too_large", "x", max_bytes=5), "TooLarge"),
        (HttpError(415, "unsupported_encoding", "x"), "UnknownEncoding"),
        (RateLimited("x", retry_after_ms=1), "TooManyRequests"),
        (Overloaded("x"), "TooManyRequests"),
        (Unavailable("x", retry_after_ms=1500), "Unavailable"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_errors_are_as_documented(error: LorestreamError, name: str) -> None:
    found = json.loads(openapi_document("x", [], needs_keys=True))
    answer = error_response(error, "r")
    response = found["components"]["responses"][name]
    validator(found, response["content"]["application/json"]["schema"]).validate(json.loads(answer.body))
    promised = set(response["headers"]) - {"X-Request-Id"}  # which every answer gets where it is sent
    assert promised == {
        key for key in ("Retry-After", "WWW-Authenticate") if key.lower().encode() in dict(answer.headers)
    }


@pytest.mark.parametrize(
    ("schema", "status"), [("AgentTotal", "200"), ("ErrorBody", "400")], ids=["success", "error"]
)
def test_the_check_detects_a_response_that_breaks_its_schema(up: Up, schema: str, status: str) -> None:
    up.remember()  # an answer about nobody fits any schema of an agent
    for spoil in (
        lambda found: found["components"]["schemas"][schema].update(required=["something else"]),
        lambda found: found["paths"]["/v1/agents"]["get"]["responses"].pop(status),
    ):
        found = deepcopy(up.document)
        spoil(found)
        spoilt = schemathesis.openapi.from_dict(found)["/v1/agents"]["get"]
        case = spoilt.Case(query={"limit": 5 if status == "200" else 0})
        assert up.ask(case).status_code == int(status)
        with pytest.raises(FailureGroup):
            conforming(up, case)


# --- the document ----------------------------------------------------------------------------------------


def test_the_document_is_valid(up: Up) -> None:
    up.api.validate()
    assert up.document["openapi"].startswith("3.1.")
    ids = [op["operationId"] for methods in up.document["paths"].values() for op in methods.values()]
    assert len(ids) == len(set(ids))
    # Two templates that differ only in the names of their parameters are one path.
    paths = [re.sub(r"{\w+}", "{}", path) for path in up.document["paths"]]
    assert len(paths) == len(set(paths))
    named = re.findall(r'"#/components/(\w+)/([\w-]+)"', json.dumps(up.document))
    assert all(name in up.document["components"][kind] for kind, name in named)


def test_the_document_names_every_route(up: Up) -> None:
    router = up.app
    while not hasattr(router, "routes"):
        router = router._app
    routes = {
        (method, route.path)
        for route in router.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        # Most admin tasks are not public, /mcp is described by its own protocol, and the console is files.
        if method != "HEAD"
        and not route.path.startswith(("/mcp", "/console/"))
        and (not route.path.startswith("/v1/admin/") or route.path in up.document["paths"])
    }
    named = {(method.upper(), path) for path, methods in up.document["paths"].items() for method in methods}
    assert named == routes


def test_put_is_post(up: Up) -> None:
    for path, methods in up.document["paths"].items():
        assert ("put" in methods) == ("post" in methods), path
        if "put" in methods:
            assert {**methods["put"], "operationId": ""} == {**methods["post"], "operationId": ""}


def test_every_parameter_of_a_path_is_described(up: Up) -> None:
    for path, methods in up.document["paths"].items():
        for op in methods.values():
            described = {one["name"] for one in op["parameters"] if one["in"] == "path" and one["required"]}
            assert described == set(re.findall(r"{(\w+)}", path)), path


async def test_with_keys_every_operation_names_its_scope(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        offered = [*writes.operations(Gateway.over(runtime)), *reads.operations(CurrentRecall(runtime))]
    found = json.loads(openapi_document("x", offered, needs_keys=True, peer=f"the {READS.name} service"))
    schemathesis.openapi.from_dict(deepcopy(found)).validate()
    for methods in found["paths"].values():
        for op in methods.values():
            [[scope]] = [next(iter(one.values())) for one in op["security"]]
            assert scope in {"ingest", "query", "erase", "admin"}
            assert {"401", "403"} <= set(op["responses"])
    without = json.loads(openapi_document("x", offered))
    assert not any(
        {"401", "403"} & set(op["responses"]) for ops in without["paths"].values() for op in ops.values()
    )


def test_the_types_of_the_typescript_client_are_those_of_the_api(up: Up) -> None:
    document = deepcopy(up.document)
    for operations in document["paths"].values():
        if "post" in operations:
            operations.pop("put")
    lines = sorted(line for name in ("paths", "components") for line in shape_of(document[name], name))
    shape = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    found = re.search(r"^// Shape of the API: (\w+)$", GENERATED.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    assert found[1] == shape, (
        "the API has changed since src/openapi.ts was made: start lorestream up, then `npm install --no-package-lock`"
        " and `npm run generate` in clients/typescript"
    )


def shape_of(part: Any, path: str) -> Iterator[str]:
    """The names and types of an OpenAPI document, a line each: as `shapeOf` of clients/typescript/scripts/generate.mjs."""
    if isinstance(part, dict | list):
        yield path
        for name, inner in part.items() if isinstance(part, dict) else enumerate(part):
            if name not in TEXTS or path.endswith("/properties"):
                yield from shape_of(inner, f"{path}/{name}")
    elif isinstance(part, bool | str | None):
        yield f"{path}={part if isinstance(part, str) else json.dumps(part)}"


# --- what Schemathesis found -----------------------------------------------------------------------------


def test_allow_names_all_methods_of_a_path(up: Up) -> None:
    allowed = {
        "/v1/memories/x": "DELETE, GET, HEAD",
        "/v1/memories/search": "DELETE, GET, HEAD, POST, PUT",
        "/v1/agents": "GET, HEAD",
    }
    for path, methods in allowed.items():
        answer = up.request("OPTIONS", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)


@pytest.mark.parametrize("name", ["until", "since", "tick_from", "tick_to"])
def test_null_is_refused_in_a_query_string(up: Up, name: str) -> None:
    answer = up.request("GET", f"/v1/agents/{AGENT}/memories", params={name: "null"})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"] == {"path": name}


# --- the page --------------------------------------------------------------------------------------------


def test_the_page_loads_nothing(up: Up) -> None:
    answer = up.request("GET", "/docs")
    page = answer.text
    assert re.findall(r"(?:src|href)\s*=\s*['\"]?([^'\"\s>]+)", page)
    assert all(link[0] in "/#" for link in re.findall(r"(?:src|href)\s*=\s*['\"]?([^'\"\s>]+)", page))
    page = page.replace("https://example.com/lorestream", "")  # the address of a webhook in an example
    assert "//" not in page.replace(f"export LORESTREAM_URL={BASE_URL}\n", "").replace(f"{BASE_URL}<", "<")
    assert not re.search(r"<script|<img|<iframe|@import|url\(", page)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_page_shows_every_operation_with_an_example(up: Up) -> None:
    page = html.unescape(re.sub(r"<[^>]+>", " ", up.request("GET", "/docs").text))
    for path, methods in up.document["paths"].items():
        for method in methods:
            if method != "put":
                assert re.search(rf"{method.upper()}\s+{re.escape(path)}\s", page), (method, path)
    assert page.count("curl -s") == sum(
        len(set(methods) - {"put"}) for methods in up.document["paths"].values()
    )


def test_the_page_shows_no_invalid_host_header(up: Up) -> None:
    answer = up.request("GET", "/docs", headers={"Host": "x'><script>alert(1)</script>"})
    assert "alert" not in answer.text
    assert answer.status_code == 403
    other = DocsPage(openapi_document("x", [])).html("https://lorestream.example:8443")
    assert "LORESTREAM_URL=https://lorestream.example:8443" in other
