"""Runs held side by side: as their directories have them, as a table and as a page."""
