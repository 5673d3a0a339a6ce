"""Services that stay alive: a transactional repository of their configuration, and what starts and restarts them.

See docs/services.md."""
