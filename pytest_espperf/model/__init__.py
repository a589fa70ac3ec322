"""Types and tables of what is known about sessions. No I/O."""
