"""Records what the Luanti mod sends in a game: `python -m tests.luanti.record --help`."""
