"""A ranking policy tried on the simulated feed (`lt4rec.online`)."""
