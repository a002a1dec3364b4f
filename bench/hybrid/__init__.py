"""Hybrid memory measured on a GPU: `python -m bench.hybrid.campaign` launches the grid with nexus-run itself."""
