"""From the log to the store: decode, narrate, embed, upsert, commit."""
