"""Instances with their reported states, from what the repository holds."""

from __future__ import annotations

from collections.abc import Mapping

from kvoshim.services.core import composing
from kvoshim.services.core.graph import Node
from kvoshim.services.core.model import RESTARTER, Instance, Service, View, full_name
from kvoshim.services.core.states import from_report


def instances_of(services: Mapping[str, Service]) -> dict[str, Instance]:
    """By full name."""
    return {full_name(name, short): one for name, service in services.items() for short, one in service.instances.items()}


def nodes_of(services: Mapping[str, Service]) -> dict[str, Node]:
    """As the configuration in force has them."""
    found = {}
    for name, service in services.items():
        for short, instance in service.instances.items():
            view = composing.running(instance) or View()
            status = from_report(instance.volatile.get(RESTARTER, {}))
            found[full_name(name, short)] = Node(view, status, composing.enabled(service, instance))
    return found
