"""The outputs of DataResolver: TFX passes values on as artifacts that hold one string."""

#: Keys of the output channels.
SOURCE, FINGERPRINT, LABELLED_FINGERPRINT = "resolved_source", "resolved_fingerprint", "labelled_fingerprint"
SETTINGS_FINGERPRINT, CHAMPION, NEWS = "settings_fingerprint", "resolved_champion", "news"
OUTPUTS = (SOURCE, FINGERPRINT, LABELLED_FINGERPRINT, SETTINGS_FINGERPRINT, CHAMPION, NEWS)

#: Values of the output `news`.
NEW, OLD = "new", "old"
