"""Real servers for tests: each starts on a free loopback port or a unix socket and ends by its own pid."""
