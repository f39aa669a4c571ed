"""Keys of the MLflow tags that nnclr sets. Existing registries hold them, so they never change."""

#: On a registered model: the folder that TensorFlow Serving watches.
SERVING_DIRECTORY = "serving_directory"

#: On a version, and on its MLflow run: the identity of the release.
RELEASE = "release"
#: On a version: the sha256 of the manifest of its files.
SHA256 = "sha256"
#: On a version: the accuracy that was measured before the release.
PROBE_ACCURACY = "probe_accuracy"
#: On a version: the identity of the images on which the accuracy was measured.
TEST_DATA = "test_data"
