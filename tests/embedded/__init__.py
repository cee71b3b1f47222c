"""The embedded endpoint, its token arithmetic and the probing of media."""
