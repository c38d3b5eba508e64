"""One module per backend; the only place that imports vendor SDKs."""
