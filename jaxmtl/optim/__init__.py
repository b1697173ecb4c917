"""Optimisers of the net whose updates, moments and decay stop at a gate."""
