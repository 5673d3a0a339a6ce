"""The spawner, the native parent of all services, seen from its controller; and what a restarter needs around it
(docs/services-spawner.md).

Lowest first: wire (numbers and layouts), messages (values), packets (bytes), program (where it is, how it is started), client
(talking to it). Beside them, on their own: limits, ids (words of a configuration into an order's numbers), logs (output, written and
rotated), notify, ready (how a service says that it is ready), cgroup, tree (which processes are a service's).
"""
