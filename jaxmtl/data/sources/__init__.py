"""The logs there are, a module or a package each: `read` makes a `Log` of its files."""
