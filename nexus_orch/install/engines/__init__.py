"""Environments with vLLM."""
