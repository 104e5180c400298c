"""How Sphinx builds the pages: `make docs`."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HERE / "_build" / "jax"))

import model_pages

project, author, copyright = "reverie", "The reverie maintainers", "2026, the reverie maintainers"
release = version = installed("reverie")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "tutorials"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# Links that the README and GitHub follow (to ../CONTRIBUTING.md and the like) lead out of the pages.
suppress_warnings = ["myst.xref_missing", "config.cache"]

html_theme = "furo"
html_title = "reverie"

sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "only_warn_on_example_error": False,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "capture_repr": (),
    "plot_gallery": "True",
    "remove_config_comments": True,
}

model_pages.write(HERE / "models")


def _escape_shapes(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    # "(n, *shape)" in a docstring is a shape, not the start of an emphasis.
    lines[:] = [re.sub(r"(?<![`\w])\((n(?:, \w+)*), \*(\w+)\)", r"``(\1, *\2)``", line) for line in lines]


def setup(app: Any) -> None:
    """Connect what Sphinx calls."""
    app.connect("autodoc-process-docstring", _escape_shapes)
