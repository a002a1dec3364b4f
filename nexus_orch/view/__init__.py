"""What a person or a machine sees of a run: plan, live view, plain lines, JSON lines, reports, tables."""
