"""What a cache does, told to others: `prometheus`, `opentelemetry`, `logging`.

Each of the three is imported by its own name, and needs its package only then. None is told of a key or a
value.
"""
