"""What caches do, tried: each claim on the page of comparison is a function here, run against each of them.

``python -m benchmarks.comparison`` runs them all, prints what came of it and writes the tables of
``docs/explanation/comparison.md`` and what they are made from, ``docs/explanation/comparison.json``.
"""
