"""`python -m lorestream.cli`."""

from lorestream.cli import main

main()
