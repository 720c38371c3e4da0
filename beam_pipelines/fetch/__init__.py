"""The polite fetch: `Fetcher` gives the bytes at an address, or the reason why they cannot be had.

Imports neither Beam nor TensorFlow, so that a service can use it.
"""
