"""DataGate: stops a run whose images are unfit for training, and warns of suspicious ones."""
