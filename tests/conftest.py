"""Plug-ins that bring real servers; each starts with the first test that asks for it."""

pytest_plugins = ["faults_table", "servers.databases", "servers.postgres", "servers.valkey"]
