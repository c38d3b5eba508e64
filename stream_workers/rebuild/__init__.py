"""Building a collection anew from the log: replay, quality gate, alias swap, compaction."""
