"""Keys of the MLflow tags that nnclr sets. Existing registries hold them, so they never change."""

#: On a registered model: the folder that TensorFlow Serving watches.
SERVING_DIRECTORY = "serving_directory"

#: On a registered model: the alias that the challenger gets when a person promotes it.
CHALLENGER_FOR = "challenger_for"

#: On a version, and on its MLflow run: the identity of the release.
RELEASE = "release"
#: On a version: the sha256 of the manifest of its files.
SHA256 = "sha256"
#: On a version: the accuracy that was measured before the release; missing if there were no labels.
PROBE_ACCURACY = "probe_accuracy"
#: On a version that was released without labels: the share of images that were measured to have a consistent neighbour.
NEIGHBOUR_CONSISTENCY = "neighbour_consistency"
#: On a version: the identity of the images on which it was measured.
TEST_DATA = "test_data"
