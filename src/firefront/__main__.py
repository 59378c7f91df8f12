"""`python -m firefront` is the `firefront` command."""

import sys

from firefront.cli.main import main

sys.exit(main())
