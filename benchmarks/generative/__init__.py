"""Speed of the room `generative` beside its peers, each pair in one process, in turn."""
