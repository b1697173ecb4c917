"""What is run: configurations, rows, logs, and the programs they ask for."""
