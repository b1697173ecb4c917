"""Metrics by which a task is judged, one a file."""
