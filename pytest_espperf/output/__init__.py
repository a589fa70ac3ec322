"""Writing reports and exports to files."""
