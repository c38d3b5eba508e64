"""Folding: the state events of a batch into rows (documents, Q-tables, policies, imported rows).

    folder.py     Folder: reads the rows that events touch, folds, writes what changed; the order of the writes
    fold.py       the fold of one event, by its type: which rows it needs, and how it changes them
    changes.py    Position, Changes: where an event lies in the log, and what it changes
    documents.py  documents: put, patch, delete, rollback; versions and answers
    policies.py   policies: parts, manifests, and the removal of parts that no kept version names
    q_tables.py   Q-tables
    imported.py   rows of an export

All but folder.py is pure: `fold(rows, event, position) -> changes`, without input or output. An event that is folded into a
row already changes that row no more, so a batch may be folded again, in other batches, or by two workers.

    folder = Folder(store, ledger, clock, log="cluster/lorestream.events", keep_versions=20)
    folded = await folder.fold([StateRecord(envelope, record), …])  # in the order of the log
"""
