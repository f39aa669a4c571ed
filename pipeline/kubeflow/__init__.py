"""The pipeline on Kubeflow Pipelines: compile it, run its steps in pods."""
