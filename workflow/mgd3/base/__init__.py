"""What every room stands on: errors, seeds, artefacts and their records, checkpoints, memory.

Imports nothing of the package.
"""
