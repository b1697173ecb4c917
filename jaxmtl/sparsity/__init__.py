"""Which weights a task keeps: masks, pruning, tickets, controls."""
