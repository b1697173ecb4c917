"""From what was trained to tables, figures and pages."""
