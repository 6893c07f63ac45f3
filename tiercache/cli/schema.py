"""`tiercache schema`: the JSON Schema of configurations."""

from __future__ import annotations

from tiercache.cli._context import command
from tiercache.cli._output import show_json
from tiercache.config import schema as of_configurations

__all__ = ["schema"]


@command()
def schema() -> None:
    """Print the JSON Schema of configurations.

    For editors, which then complete and check the options. It knows the types that the packages offer which
    are installed here; of their options it knows nothing.
    """
    show_json(of_configurations())
