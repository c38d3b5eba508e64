"""The HTTP routes that read state.

routes.py    one method per operation
schemas.py   request and response types
examples.py  one example call per operation, for the documentation
"""
