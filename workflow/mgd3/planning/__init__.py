"""What a configuration means: its runs, the paths of their artefacts, what they will cost."""
