"""The collections of a deployment: which there are, which is searched, how far each is indexed.

    catalogue.py          Catalogue: the port that lists, creates, switches and deletes collections
    open_collections.py   OpenCollections: those that this process has open, the active one, and their watermarks
    active_rows.py        ActiveRows: the rows of the active collection
    watermarks.py         ActiveWatermarks: the watermarks of the active collection, for a process without a store

A search in the active collection:

    async with OpenCollections.open(catalogue, embedder, load=load, watch=watch, group_of=group_of) as collections:
        current = collections.current  # one query uses the same collection from its beginning to its end
        vector = (await current.embedder.embed([text])).vectors[0]
        hits = await current.store.search(VectorQuery(scope, vector.tolist(), k=5, now=now))
"""
