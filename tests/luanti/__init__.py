"""The Luanti mod, from its pure files to a real server with a real client."""
