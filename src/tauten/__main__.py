"""``python -m tauten`` is the command line."""

import sys

from tauten.cli import main

sys.exit(main())
