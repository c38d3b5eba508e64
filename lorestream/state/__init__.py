"""State: what an agent is, apart from its memories. Types, keys, limits and checks; no input or output.

    rows.py         Row, RowKey, RowKind: a keyed JSON value in a collection, without a vector
    documents.py    documents with versions, and the answers to their writes
    q_tables.py     Q-tables: the values of a state's actions
    policies.py     policies: bytes in parts, made visible by a manifest
    known_types.py  document types whose known fields are checked
    row_checks.py   checks of the rows of an export

All of it is written as events to the log (`lorestream.events`) and folded into rows by the workers
(`stream_workers.folding`). The row of a document:

    key = documents.document_key(tenant, agent_id, "character")
    row = (await store.rows([key]))[0]
    document = documents.decode(row)  # Document(version=7, data={"name": "Ada"}, …)
"""
