"""Log lines to stages, numbers and evidence."""
