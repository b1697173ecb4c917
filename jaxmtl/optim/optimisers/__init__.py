"""Directions in which weights move, one published optimiser a file."""
