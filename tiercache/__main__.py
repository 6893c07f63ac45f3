"""`python -m tiercache`: the same as `tiercache`."""

import sys

from tiercache.cli import main

sys.exit(main())
