"""A Qdrant server or Qdrant Cloud, over gRPC."""
