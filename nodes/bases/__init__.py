"""Base classes of nodes, and the parts that several nodes hold; a node author may build on them."""
