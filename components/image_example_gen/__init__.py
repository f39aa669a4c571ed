"""ImageExampleGen: images from any of the known sources to sharded TFRecords in three splits."""
