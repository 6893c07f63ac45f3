"""How often a cache has what is asked for: traces of lookups, replayed through the real tiers by each policy
and at several sizes, beside the optimum. ``python -m benchmarks.hit_ratio --help`` tells how.

`traces` reads files and `synthetic` makes what is in none; `replay` asks the tiers, `optimum` and
`simulators` those they are held against; `study` puts the figures together, and `report` shows them.
"""
