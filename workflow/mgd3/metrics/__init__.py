"""What a distilled set is like, besides the accuracy it gives (paper, section 4.4)."""

# The run under which tables list the real images that distilled sets are measured against.
ORIGINALS = "originals"
# Measures in latent space and in its map, of each image but `modes_hit`, which is of a class.
IN_LATENTS = ("diversity", "representativeness", "memorisation", "modes_hit")
# On the features of a network: of whole sets, which have a figure of as many real images, ...
OF_SETS = ("kid", "precision", "recall", "coverage", "frechet")
# ... and of each image.
OF_IMAGES = ("nearest_train", "closer_than_99", "agreement", "log_probability")
# The space in which these stand in tables.
FEATURES = "features"
