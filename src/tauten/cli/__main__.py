"""``python -m tauten.cli`` is the command line, for launchers that take a module."""

import sys

from tauten.cli import main

sys.exit(main())
