"""What runs Lorestream: images, compose file, nginx, and the same on one machine without Docker.

local/           the distributed shape as child processes on one machine
luanti/          the Luanti mod as ContentDB takes it
device_check.py  what this machine embeds in a second, and the settings to choose
sbom.py          the bill of materials of what ships
vendored.py      fetches the browser libraries of this repository again
"""
