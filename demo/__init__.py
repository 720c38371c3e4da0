"""The demonstration: draws a small collection, serves it, and runs the project's commands on it as a user would."""
