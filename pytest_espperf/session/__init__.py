"""One board's session: plan, drive, record, judge."""
