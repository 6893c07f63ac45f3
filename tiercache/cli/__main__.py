"""`python -m tiercache.cli`: the same as `tiercache` and `python -m tiercache`."""

import sys

from tiercache.cli import main

sys.exit(main())
