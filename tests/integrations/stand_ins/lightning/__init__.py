"""The part of lightning that the callback needs."""
