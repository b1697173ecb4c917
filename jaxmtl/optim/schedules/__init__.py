"""How the learning rate changes, one schedule a file."""
