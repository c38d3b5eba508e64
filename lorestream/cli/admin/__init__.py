"""Verbs for operators: dlq, replay, alias, drop, cache, export, import, snapshot, restore.

    runner.py        runs an admin task on the server (embedded shape) or in this process (distributed shape)
    tasks.py         all admin tasks, built from the parts of a process
    dead_letters.py  lorestream dlq ls|show|retry|drop
    collections.py   lorestream replay, alias swap|rollback|list, drop, cache clear
    exports.py       lorestream export, import
    export_file.py   reading and writing export files
    snapshots.py     lorestream snapshot, restore

A verb only reads its options, runs a task, and prints the rows and the outcome:

    rows: list[dict[str, Any]] = []
    outcome = runner.run_task("dlq-ls", {"limit": 10, "reason": None}, url=url, on_row=rows.append)
    terminal.print_table({"id": "", "reason": ""}, [(row["id"], row["reason"]) for row in rows])
    terminal.print_note(f"{len(rows)} of {outcome['total']} dead letters")
"""
