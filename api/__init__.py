"""The HTTP surface: the API and the status page."""
