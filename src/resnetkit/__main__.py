"""``python -m resnetkit`` is the command."""

import sys

from resnetkit.cli.main import main

sys.exit(main())
