"""The registry: processes find each other by name, are told of each other, and are missed when they die. See docs/registry.md."""
