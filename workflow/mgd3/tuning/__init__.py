"""Tuning: successive halving over a grid of settings, judged by held-out training images."""
