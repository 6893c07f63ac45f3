"""What the benchmarks gave, for people: ``python -m benchmarks.report --help`` tells how.

`machine` says where a run was; `figures` reads what runs left and knows each figure by its name; `pages` and
`charts` show them; `quoted` keeps README and docs at what they say.
"""
