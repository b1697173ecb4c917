"""How raw logs are read: files, formats, vocabularies, scales and splits."""
