"""Multi-task recommenders as pure functions over pytrees."""
