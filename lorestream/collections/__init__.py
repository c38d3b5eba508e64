"""The collections of a store: which there are, which is searched, how far each has been fed."""
