"""Value store."""
