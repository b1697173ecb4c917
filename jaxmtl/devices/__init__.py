"""Several devices: meshes, processes, and several trainings in one program."""
