"""The vector store on Qdrant: what Qdrant Edge (in process) and a Qdrant server have in common."""
