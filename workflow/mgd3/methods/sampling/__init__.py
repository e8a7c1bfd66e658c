"""Sampling from the diffusion model: the work of the methods that do."""
