"""The page of a data set, `report.html`: one module for each part of it, which computes what is shown there."""
