"""Settings chosen on validation: what is tried, the trials, and what was chosen."""
