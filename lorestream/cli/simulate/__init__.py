"""`lorestream simulate`: the load of many game servers."""
