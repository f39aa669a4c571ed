"""The pipeline on this machine: its runner, its working directory, and retraining on a schedule."""
