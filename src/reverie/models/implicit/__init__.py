"""Implicit models: generators whose draws are at hand and whose law is no formula."""
