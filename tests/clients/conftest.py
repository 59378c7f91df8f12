"""The clients talk to the server that the end-to-end tests talk to."""

from tests.e2e.conftest import live

__all__ = ["live"]
