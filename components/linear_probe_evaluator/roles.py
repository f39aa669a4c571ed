"""The encoders that an evaluation measures, by their roles."""

CANDIDATE, UNTRAINED, CHAMPION, BEST_RELEASE = "candidate", "untrained", "champion", "best_release"
