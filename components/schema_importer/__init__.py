"""SchemaImporter: writes the curated schema as an artifact."""
