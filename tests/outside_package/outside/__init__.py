"""A package of a researcher who uses mgd3."""
