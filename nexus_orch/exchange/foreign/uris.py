"""Addresses by which operators fetch models."""

from __future__ import annotations


def model_of(uri: str) -> tuple[str, list[str]]:
    """The model that an address names, and what is to be said about it."""
    scheme, has_scheme, path = uri.partition("://")
    if not has_scheme:
        return uri, []
    if scheme == "hf":
        return path.partition(":")[0], []
    return uri, [f"the model comes from {uri}, which the operator fetches"]
