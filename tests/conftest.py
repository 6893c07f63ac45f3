"""Plug-ins with fixtures: real servers, which start with the first test that asks for one, and the
scheduler's event loops.
"""

import os
import sys

# The tests start hundreds of processes, and each would compile all that it imports anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = ["faults_table", "interleavings", "servers.databases", "servers.postgres", "servers.valkey"]
