"""Published ways to find the mask of a round, one a file."""
