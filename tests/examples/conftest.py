"""The desk of the session's tests: a project whose engine is the fake one."""

from tests.session.conftest import behave, desk

__all__ = ["behave", "desk"]
