"""What runs Engram: images, compose file, nginx, and the same on one machine without Docker."""
