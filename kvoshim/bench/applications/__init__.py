"""One run of a real server with its own load generator. Skipped where not installed."""
