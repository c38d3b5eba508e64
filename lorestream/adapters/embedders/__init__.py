"""Embedders, the adapters of `lorestream.ports.Embedder`: texts to vectors. And the preparation of models.

    openvino.py           a prepared model in OpenVINO on this machine: the default
    torch.py              any model of sentence-transformers, on a CPU or GPU
    cross_encoder.py      a prepared cross-encoder in OpenVINO: reranks by reading query and text together
    late_interaction.py   reranks by the token vectors of an embedding model, without further weights
    http.py               a server of OpenAI's `/v1/embeddings`: single flight, batches, cache
    http_endpoint.py      one request to such a server: retries, errors, decoding
    hash.py               vectors without meaning, for tests
    queue.py              what the local embedders share: a bounded queue before one worker thread
    call_queue.py         the texts in that queue: the calls that wait take turns
    chunk_size.py         how many texts such a thread gets at once
    reranker.py           what the rerankers share: callers that take turns at one worker thread
    worker_thread.py      the priority of those threads
    openvino_network.py   a prepared network in OpenVINO: runtime, precision, inputs
    texts.py              which part of a text a model reads, and a cache of the vectors of recent texts
    same_tokens.py        which texts are the same for a tokenizer, and share a vector
    prefixes.py           what a model reads before a query and before a passage
    model_files.py        a prepared model on disk: paths, manifest, description of a model's own files
    model_preparation.py  from a model's name to a prepared model: hub, package of weights, conversion
    weights_packages.py   the packages that hold the files of a model, and their checksums
    onnx_weights.py       float32 weights from an ONNX file with int8 weights
    dense_heads.py        the layers behind the pooling of some models
    bert_network.py       the OpenVINO network of a BERT model, from its weights
    model_export.py       the OpenVINO network of any other model, by sentence-transformers in a child process

One typical call:

    files = model_preparation.prepare("sentence-transformers/all-MiniLM-L6-v2", models_dir, report=print)
    async with OpenVinoEmbedder.open(files.directory, threads=2) as embedder:
        embeddings = await embedder.embed(["an oak by the mill"], Priority.QUERY)
        embeddings.vectors.shape  # (1, 384), float32, each row of length 1
"""
