"""The documentation's site: builds it, checks it, and renews what the pages have of the code.

``PYTHONPATH=tests python -m website build`` builds it into `site/`, as `make docs` does; ``renew`` writes the
files in `docs/` that are made from the code. No tests.
"""
