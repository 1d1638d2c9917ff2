"""Run the command line by `python -m expunge`."""

import sys

from .cli import main

sys.exit(main())
