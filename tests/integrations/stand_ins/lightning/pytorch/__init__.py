"""The part of lightning that the callback needs."""


class Callback:
    """A callback without hooks."""
