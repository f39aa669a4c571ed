"""Notifications: one JSON object at the end of a run, for programs and chats of the user's choice."""
