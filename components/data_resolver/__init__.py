"""DataResolver: resolves the images that a run uses, and whether an earlier run has already used them."""
