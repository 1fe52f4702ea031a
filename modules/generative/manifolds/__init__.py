"""Generative models of records on a manifold."""
