"""DataGate: stops a run whose examples have anomalies."""
