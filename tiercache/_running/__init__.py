"""Running: one implementation for blocking and async callers, and work that must not hold them up."""
