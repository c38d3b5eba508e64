"""The event log, the erasure ledger and the watermarks on Kafka."""
