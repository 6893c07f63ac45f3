"""``python -m website build`` and ``renew``."""

from __future__ import annotations

import sys

from website.build import ROOT, BrokenSite, build
from website.renewed import renew

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["build"]:
            try:
                print(f"The site is in {build().relative_to(ROOT)}/")  # noqa: T201 - what was asked for
            except BrokenSite as error:
                sys.exit(str(error))
        case ["renew"]:
            renew()
        case _:
            sys.exit("python -m website build|renew")
