"""Retraining at fixed times: on Kubeflow Pipelines, or on this machine."""
