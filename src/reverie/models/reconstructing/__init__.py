"""Reconstructing models: maps that learn to give back what they are shown, judged by how well they do."""
