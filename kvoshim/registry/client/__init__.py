"""A program's end of the registry: its registrations, its searches, and what it knows of others."""
