"""Advice for the user's own images: does generating help, and with which settings."""
