"""What was asked for: options, their sources, and the tables of a project."""
