"""Run the command line by `python -m expunge`."""

import sys

from .cli.app import main

sys.exit(main())
