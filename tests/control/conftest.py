"""Daemons of their own for these tests."""

from tests.daemon.process import place

__all__ = ["place"]
