"""Comparisons with other programs and with the limit of the machine; each is one command that prints a table."""
