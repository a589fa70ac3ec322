"""What is known of sessions, in types and words. No I/O."""
