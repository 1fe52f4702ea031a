"""Speed of the room `preference` beside trl, the same model and the same texts, in turn."""
