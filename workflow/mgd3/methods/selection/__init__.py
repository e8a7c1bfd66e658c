"""Choosing real images, or parts of them: the work of the methods that do."""
