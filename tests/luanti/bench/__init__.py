"""What memories bring to the example characters, measured in a real server: `python -m tests.luanti.bench`."""
