"""The repository of services: transactions, their journal, and the daemon that owns both."""
