"""The query service: searches, contexts and pages of memories, over HTTP and gRPC.

    rest.py              HTTP routes: one method per operation
    routes.py            what all routes share
    record_routes.py     pages and streams of an agent's memories or records, by id, aggregates
    insight_routes.py    why a search returns a memory, and how many memories are where
    stream_routes.py     memories as they become findable
    batch.py             several searches, contexts and reads of documents in one request
    rpc.py               gRPC: GetMemory
    schemas.py           request types of the routes
    response_schemas.py  their response types
    record_schemas.py    both types of reads over many memories
    insight_schemas.py   both types of what explains a search, and of where memories are
    likeness_schemas.py  both types of the map by likeness
    batch_schemas.py     both types of the batch route
    examples.py          one example call per operation, for the documentation
    queries.py           from a request to a checked SearchQuery or ContextQuery
    filter_parser.py     the JSON filters of a request
    recall.py            Recall: answers from the cache or by retrieval; limits and metrics
    budget.py            how much work one read may cause
    answer_cache.py      the cache with single flight: equal concurrent queries are computed once
    retrieval.py         Retriever: embeds the text, searches the store, checks every memory
    neighbours.py        memories next to a relevant one lift its score
    time_words.py        "yesterday" in a query lifts the memories of that time
    accesses.py          when memories were last returned
    ranking.py           spheres, blends, top k
    rerank.py            a model that reads query and text together orders the best candidates anew
    context.py           selection of memories within a token budget, as text
    browse.py            reads without a text: one memory, pages, agents, summaries
    records.py           which reads show records
    relations.py         with whom an agent has to do
    aggregates.py        numbers of memories or records, in buckets of time or ticks
    explanation.py       why a search returns a memory, or does not
    places.py            how many memories are in which cell of a map
    likeness.py          a map of memories by the likeness of their vectors: the route, and its projection
    encoding.py          memories as JSON
    state/               reads of documents, Q-tables and policies
    state_rest/          their HTTP routes

One search over HTTP:

    rest._Routes.search             decode the body, check the rate limits
      queries.parse_search          agents, filter (filter_parser), sphere and blend (ranking) -> SearchQuery
      recall.Recall.search          wait for the write token `after`
        AnswerCache.look_up         a cached answer ends the search here
        AnswerCache.get_or_compute  join the computation in flight, or start one:
          Recall.working            reject when too many searches are in flight, or when it costs too much
            Retriever.top_k         embed the text; MemoryReader.search; ReadGuard.admits each memory; top k
          encoding.encode_hits      JSON, stored in the cache without waiting
    encoding.search_response        add `cache`, `fresh`, `took_ms`
"""
