"""The gRPC interface: the older API of the original design documents, over the same handlers as HTTP.

memory.proto                  the service definition; memory_pb2*.py are generated from it (`make proto`)
server                        the server: authentication, translation of messages and errors, health, reflection

handlers = Handlers(put=writes.put, delete=writes.delete, peer="the query service")
async with serving(handlers, "127.0.0.1", 50052, authenticator=authenticator) as port:
...
"""
