"""`lorestream keys create|rotate|revoke|list`: the API key file.

    commands.py  the verbs and their options
    key_file.py  the work: changes the file through lorestream.access.key_file, prints the results

A typical call:

    $ lorestream keys create --tenant default --scope ingest --scope query --file keys.json
    6f0c2d41a9e7.vYk…
"""
