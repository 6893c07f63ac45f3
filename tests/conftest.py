"""Plug-ins with fixtures: real servers, which start with the first test that asks for one, and the
scheduler's event loops.
"""

pytest_plugins = ["faults_table", "interleavings", "servers.databases", "servers.postgres", "servers.valkey"]
