"""The embedder port: OpenVINO, torch, HTTP endpoints, hash; and the preparation of models."""
