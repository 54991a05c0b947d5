"""History fills holes: what a server kept of the time in which nobody listened, read back behind the live data."""
