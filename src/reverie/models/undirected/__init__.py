"""Undirected models: energies with two colours of layers."""
