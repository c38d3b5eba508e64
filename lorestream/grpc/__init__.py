"""The gRPC edge that all services share: memory.proto, its generated stubs, the server around them."""
