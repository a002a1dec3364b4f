"""What a person or a machine sees of a run: plan, live view, plain lines, JSON lines, reports, tables."""

from nexus_orch.view.run_view import RunView, ViewFormat, make_view

__all__ = ["RunView", "ViewFormat", "make_view"]
