"""DataResolver: which images a run works on, and whether they were worked on before."""
