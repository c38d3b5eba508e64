"""Snapshot and restore of the embedded shape: SQLite log, Edge store, player key.

    snapshot.py    EmbeddedSnapshotSource: a consistent copy of a running lorestream
    restore.py     restores a snapshot into an empty data directory

A restore, as wiring/restores.py does it:

    manifest = snapshot_manifest.read(snapshot)
    target = RestoreTarget(data_dir, data_dir / "restoring", "agent_memories", model_id, dim)
    check(snapshot, manifest, target)
    with data_directory.exclusive_use(data_dir, restoring=True):
        async for report in restore(snapshot, manifest, target, None, clock):
            print(report.doing, report.done)
"""
