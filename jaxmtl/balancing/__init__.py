"""How the losses of several tasks become one step: weightings and gradient surgery."""
