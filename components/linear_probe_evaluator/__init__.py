"""LinearProbeEvaluator: measures an encoder on frozen features and blesses it, or says why not."""
