"""Speed of the room `uncertainty`, each pair in one process, in turn."""
