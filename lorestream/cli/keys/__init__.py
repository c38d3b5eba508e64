"""`lorestream keys`: the API key file."""
