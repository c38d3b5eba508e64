"""The write routes of state: documents, Q-tables, policies. Reads of them are the query service's.

    routes      the HTTP routes
    writer      checks writes, makes their events, appends them, waits for their answers
    policies    uploads of policies, in parts
    formats     the headers of safetensors and npy files
    bodies      JSON bodies, whose errors name the field
    schemas     the msgspec types of the routes
    examples    example requests and responses for the documentation

One write, and its answer:

    owner = writer.owner("default", "npc:smith")
    written = await writer.write_document(owner, "character", "put", WriteFields(), data={"name": "Ada"})
    receipt = await writer.receipt(written, timeout_s=5)
"""
