"""Embedding tables, whole or split over devices, and the optimisers of their rows."""
