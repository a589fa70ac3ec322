"""A history that several benches share."""
