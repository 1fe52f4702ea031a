"""Speed of the room `optimization` beside its peers, each pair in one process, in turn."""
