"""Sphinx settings."""

from __future__ import annotations

import sys
from pathlib import Path

import celery_nodekit

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "celery-nodekit"
author = "The celery-nodekit developers"
project_copyright = author
version = release = celery_nodekit.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "nodekit_reference",
]
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
html_title = f"celery-nodekit {version}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_use_type_comments = False

# Nothing is loaded from other projects' sites, so their objects cannot be linked to.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(celery|kombu)\..*"),
    ("py:class", r"(collections\.abc|datetime|typing)\..*"),
    ("py:class", r"Celery|.*\._Task"),
]
