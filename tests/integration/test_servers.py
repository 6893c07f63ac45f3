"""The servers that tests share outlive the test that starts them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from servers.postgres import running_postgres
from servers.valkey import running


def test_no_server_lies_in_the_folder_of_a_test(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with running() as valkey, running_postgres():
        assert Path(valkey.socket_path).parent.is_dir()
        assert list(tmp_path.iterdir()) == []
