"""Base classes of nodes, and parts that several nodes share; a node author may build on them."""
