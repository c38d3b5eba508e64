"""What runs Lorestream: images, compose file, nginx, and the same on one machine without Docker."""
