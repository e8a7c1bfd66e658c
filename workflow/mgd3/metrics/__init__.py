"""What a distilled set is like, besides the accuracy it gives (paper, section 4.4)."""

# The run under which tables list the real images that distilled sets are measured against.
ORIGINALS = "originals"
