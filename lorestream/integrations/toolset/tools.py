"""The tools: each a function from its arguments to the calls of the client, and from their answers to its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import msgspec

from lorestream.client import Event, Forbidden, InvalidValue, Weights, calls, documents
from lorestream.client.call import given
from lorestream.integrations.steps import Steps
from lorestream.integrations.toolset import arguments, results
from lorestream.integrations.toolset.arguments import WAIT_S
from lorestream.integrations.toolset.schemas import arguments_schema, path_of, schema_of
from lorestream.limits import MAX_K, MAX_QUERY_CHARS

Effect = Literal["reads", "adds", "replaces", "erases"]


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `steps` takes an object of the type `arguments` and returns one of the type `result`.

    `idempotent`: calling it again with the same arguments changes nothing more. `fixed`: arguments that are not the
    model's to choose; they are not in `input_schema`.
    """

    name: str
    title: str
    description: str
    arguments: type[msgspec.Struct]
    result: type[msgspec.Struct]
    steps: Callable[[Any], Steps[Any]]
    effect: Effect
    idempotent: bool
    fixed: Mapping[str, Any]

    @property
    def input_schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments, an object."""
        return arguments_schema(self.arguments, without=self.fixed)

    @property
    def output_schema(self) -> dict[str, Any]:
        """The JSON schema of the result, an object."""
        return schema_of(self.result)

    def call(self, given_arguments: Mapping[str, Any]) -> Steps[dict[str, Any]]:
        """The steps for these arguments; they return the result as a JSON object. Raises InvalidValue (`path`)."""
        overlap = self.fixed.keys() & given_arguments.keys()
        if overlap:
            raise InvalidValue("this argument is fixed and cannot be given", path=min(overlap))
        try:
            # Not strict: language models write "5" and 5.0 for 5.
            converted = msgspec.convert({**given_arguments, **self.fixed}, self.arguments, strict=False)
        except msgspec.ValidationError as error:
            message, path = path_of(error)
            raise InvalidValue(message, path=path) from error
        return self._as_object(self.steps(converted))

    def _as_object(self, steps: Steps[Any]) -> Steps[dict[str, Any]]:
        return msgspec.to_builtins((yield from steps))


def tools_for(agent_id: str) -> list[Tool]:
    """The tools of one agent: it is fixed, and no other agent's memories can be reached."""
    return [replace(tool, fixed={"agent_id": agent_id}) for tool in TOOLS]


def _remember(wanted: arguments.Remember) -> Steps[results.Remembered]:
    event = given(
        type=wanted.type,
        importance=wanted.importance,
        player=wanted.player,
        about=wanted.about,
        sources=wanted.sources,
        supersedes=wanted.supersedes,
        metadata=wanted.metadata,
        ttl=wanted.ttl,
        id=wanted.id,
    )
    receipt = yield calls.add(wanted.agent_id, wanted.text, event=cast("Event", event), wait_s=WAIT_S)
    return results.Remembered(cast("str", receipt.ids[0]), receipt.indexed)


def _recall(wanted: arguments.Recall) -> Steps[results.Memories]:
    if wanted.recency and wanted.query is not None and wanted.mode == "keyword":
        raise InvalidValue("scores of words alone cannot be weighed against times: use hybrid", path="mode")
    weights = Weights(relevance=1, recency=wanted.recency) if wanted.recency else None
    answer = yield calls.search(
        wanted.agent_id,
        wanted.query,
        wanted.k,
        mode=None if wanted.query is None else wanted.mode,
        filters=wanted.filters,
        weights=weights,
        min_score=wanted.min_score,
        as_of=wanted.as_of,
        superseded=wanted.superseded or None,
    )
    return results.Memories([results.Memory.of(found) for found in answer.memories])


def _context(wanted: arguments.Context) -> Steps[results.ContextText]:
    answer = yield calls.context(
        wanted.agent_id,
        wanted.query,
        recent=wanted.recent,
        relevant=wanted.relevant,
        token_budget=wanted.token_budget,
        include_state=wanted.include_state or None,
        as_of=wanted.as_of,
    )
    return results.ContextText(
        answer.text,
        answer.tokens,
        [found.id for found in answer.relevant],
        [found.id for found in answer.neighbours],
        [found.id for found in answer.recent],
        None if answer.state is None else answer.state.data,
    )


def _recent(wanted: arguments.Recent) -> Steps[results.Page]:
    page = yield calls.recent(
        wanted.agent_id,
        wanted.limit,
        order=wanted.order,
        type=wanted.type,
        conversation=wanted.conversation,
        since=wanted.since,
        until=wanted.until,
        cursor=wanted.cursor,
        as_of=wanted.as_of,
        superseded=wanted.superseded or None,
    )
    return results.Page([results.Memory.of(found) for found in page.memories], page.total, page.next_cursor)


def _about(wanted: arguments.About) -> Steps[results.AboutSomebody]:
    player = wanted.who.removeprefix("player:")
    filters = {"OR": [{"about": {"contains": wanted.who}}, {"player": player}]}
    marked = yield calls.search(wanted.agent_id, wanted.query, wanted.k, filters=filters)
    known = {found.id for found in marked.memories}
    query = wanted.who if wanted.query is None else f"{wanted.who}: {wanted.query}"
    # As many more, so that those which are marked too cost no place.
    similar = yield calls.search(wanted.agent_id, query[:MAX_QUERY_CHARS], min(MAX_K, wanted.k + len(known)))
    others = [found for found in similar.memories if found.id not in known]
    return results.AboutSomebody(
        [results.Memory.of(found) for found in marked.memories],
        [results.Memory.of(found) for found in others[: wanted.k]],
    )


def _forget(wanted: arguments.Forget) -> Steps[results.Forgotten]:
    if wanted.memory_id is None:
        erasure = yield calls.forget(wanted.agent_id)
    else:
        erasure = yield calls.delete(wanted.memory_id, wanted.agent_id)
    try:
        seen = yield calls.search(wanted.agent_id, k=1, after=erasure.token, wait_s=WAIT_S)
    except Forbidden:  # a key that may erase and not read: the erasure is accepted all the same
        return results.Forgotten(erasure.erasure_id, done=False)
    return results.Forgotten(erasure.erasure_id, done=seen.fresh)


def _get_state(wanted: arguments.GetState) -> Steps[results.State]:
    return results.State.of((yield documents.entity(wanted.type, wanted.agent_id, version=wanted.version)))


def _put_state(wanted: arguments.PutState) -> Steps[results.StatePut]:
    put = documents.patch_entity if wanted.merge else documents.put_entity
    receipt = yield put(
        wanted.type, wanted.agent_id, wanted.data, if_version=wanted.if_version, wait_s=WAIT_S
    )
    return results.StatePut(receipt.applied, receipt.version)


def _tool(
    title: str,
    description: str,
    kinds: tuple[type[msgspec.Struct], type[msgspec.Struct]],
    steps: Callable[[Any], Steps[Any]],
    effect: Effect,
    *,
    idempotent: bool = True,
) -> Tool:
    name = steps.__name__.removeprefix("_")
    return Tool(name, title, description, *kinds, steps, effect, idempotent, {})


TOOLS = (
    _tool(
        "Remember something",
        "Store one memory of an agent. Returns once searches find it. To correct a memory, remember the new text"
        " with `supersedes`.",
        (arguments.Remember, results.Remembered),
        _remember,
        "adds",
        idempotent=False,
    ),
    _tool(
        "Recall memories",
        "Find the memories of an agent that fit a question best, by meaning and words. Call it before answering"
        " anything that the agent may have experienced or been told.",
        (arguments.Recall, results.Memories),
        _recall,
        "reads",
    ),
    _tool(
        "Memories as text for a prompt",
        "The most relevant and the newest memories of an agent as one text within a token budget, oldest first."
        " Use it to begin a conversation or a decision; use `recall` for single questions.",
        (arguments.Context, results.ContextText),
        _context,
        "reads",
    ),
    _tool(
        "Recent memories",
        "The memories of an agent in the order of time, page by page.",
        (arguments.Recent, results.Page),
        _recent,
        "reads",
    ),
    _tool(
        "What an agent remembers about somebody",
        "Memories of an agent about another agent or a player: those that are marked so, and what resembles the name"
        " and the query.",
        (arguments.About, results.AboutSomebody),
        _about,
        "reads",
    ),
    _tool(
        "Forget",
        "Delete one memory of an agent for ever, or, without `memory_id`, everything that it remembers, its messages"
        " and documents too. Cannot be undone: ask the user first.",
        (arguments.Forget, results.Forgotten),
        _forget,
        "erases",
    ),
    _tool(
        "Read an agent's state",
        "Read a document of an agent, such as its character: name, personality, beliefs, goals.",
        (arguments.GetState, results.State),
        _get_state,
        "reads",
    ),
    _tool(
        "Write an agent's state",
        "Create, replace or (with `merge`) change a document of an agent. Earlier versions are kept and can be read"
        " with `get_state`.",
        (arguments.PutState, results.StatePut),
        _put_state,
        "replaces",
    ),
)
"""All tools, with the agent as an argument."""
