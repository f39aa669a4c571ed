"""ImageExampleGen: writes the images of any known source as sharded TFRecords in three splits."""
