"""Configuration: the options, their sources, and the tables of a project."""
