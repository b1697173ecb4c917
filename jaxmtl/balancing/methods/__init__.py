"""Published loss weightings and gradient surgeries, one a file."""
