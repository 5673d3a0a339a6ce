"""The restarter: starts, watches, stops and restarts services as the repository says. It holds nothing that it could not ask for: what
should be is in configd, what is in the spawner."""
