"""Training day by day on a log that goes on (`lt4rec.daily`)."""
