"""A trained net as a folder that scores raw rows, without what trained it."""
