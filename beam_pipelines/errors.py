"""Errors that a user can mend; commands show them as one line and exit with code 2 or 1."""


class UserError(Exception):
    """What the user asked for cannot be done; the message names the value and says what to do instead."""


class OptionError(UserError):
    """An option's value is wrong, found before any work."""


class RunError(UserError):
    """A run that began could not end well: nothing usable was found, too much was rejected, the disk is full."""


class StorageError(RunError, OSError):
    """A file system on other machines refuses, or cannot be reached."""
