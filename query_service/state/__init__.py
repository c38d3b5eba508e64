"""Reads of state: documents, Q-tables and policies, which the workers fold into rows.

    rows.py       VisibleRows: rows that a read may show, read in steps; pages that end at a number of bytes
    documents.py  one version of a document, the versions of one, the documents of a type, answers to writes
    character.py  a character as lines of a prompt
    q_tables.py   values of states, pages of a table
    policies.py   the bytes of a policy, checked before they are sent

One read of a document over HTTP:

    state_rest.routes._Routes.entity   path and query string; rate limits
      state_rest.entity.entity_read    the agent's lasting stored form; what is read, and how its answer is computed
      recall.Recall.answer             wait for the write token `after`; the cached answer, or:
        documents.find                 RowReader.rows; the erasure ledger; the version that was asked for
"""
