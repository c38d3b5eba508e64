"""The Luanti mod as ContentDB takes it.

    mod_zip.py  make mod-zip: the archive for a release

A typical call:

    mod_zip.write(Path("dist/lorestream.zip"), "https://git.example.org/someone/lorestream")
"""
