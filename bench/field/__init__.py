"""Scores on what people meet in the field: `python -m bench.field [SUBJECT ...]`."""
