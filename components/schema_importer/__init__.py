"""SchemaImporter: makes the curated schema an artifact."""
