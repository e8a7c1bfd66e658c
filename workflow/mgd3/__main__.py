"""`python -m mgd3 STAGE ...`, the same as the command `mgd3`."""

from .cli import console

if __name__ == "__main__":
    console()
