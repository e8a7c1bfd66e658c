"""`python -m mgd3 STAGE ...`, the same as the command `mgd3`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
