"""Conditional models: networks that answer, judged by their task's metric."""
