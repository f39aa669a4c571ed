"""DataGate: lets a run go on only if the examples have no anomalies."""
