"""The outputs of DataResolver: TFX passes values on as artifacts that hold one string."""

#: Keys of the output channels.
SOURCE, FINGERPRINT, LABELLED_FINGERPRINT = "resolved_source", "resolved_fingerprint", "labelled_fingerprint"
SETTINGS_FINGERPRINT, NEWS = "settings_fingerprint", "news"
OUTPUTS = (SOURCE, FINGERPRINT, LABELLED_FINGERPRINT, SETTINGS_FINGERPRINT, NEWS)

#: Values of the output `news`.
NEW, OLD = "new", "old"
