"""The guard: how one tier is called, so that an ill one is a miss, holds nobody up and lies to nobody."""
