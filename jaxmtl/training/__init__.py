"""Training as pure programs: what they depend on, their state, steps and loop."""
