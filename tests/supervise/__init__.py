"""The supervisor with children of the tests' own, and with the real daemon."""
