"""Settings of the documentation site. `make docs` builds it into docs/_build/html; a warning is an error."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "src")]

from expunge.version import __version__  # noqa: E402

project = "Expunge"
author = copyright = "The Expunge authors"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.doctest",
    "sphinxcontrib.mermaid",
    "api_pages",
    "docstrings",
    "outside_links",
]
exclude_patterns = ["_build", "_ext", "_static", "**.ipynb_checkpoints"]
# ref.python: a short name in a signature may belong to two classes, and the link takes one of them
suppress_warnings = ["mystnb.unknown_mime_type", "ref.python"]
nitpicky = False

# pages: Markdown of GitHub, and headings as targets of links
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
# the notebooks are committed with their output
nb_execution_mode = "off"

# API: the docstrings are Google style, and `name` is code
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_mock_imports = [
    "accelerate", "datasets", "diffusers", "lightning", "mlflow", "peft", "pyarrow", "ray", "tensorboard", "timm",
    "torchmetrics", "torchvision", "transformers", "wandb",
]  # fmt: skip
python_display_short_literal_types = True

# `sphinx-build -b doctest docs DIR` runs only blocks marked as tests: the examples of docstrings show calls, not sessions
doctest_test_doctest_blocks = ""

# `sphinx-build -b linkcheck docs DIR`: papers and law texts answer programs with refusals now and then
linkcheck_anchors = False
linkcheck_retries = 2
linkcheck_timeout = 30
linkcheck_allowed_redirects = {r"https://doi\.org/.*": r".*", r"https://arxiv\.org/.*": r".*"}

html_theme = "furo"
html_title = f"Expunge {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
