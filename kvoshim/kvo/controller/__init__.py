"""The controller process, a daemon of the process layer (daemon.py): IPC listener (listener.py, service.py),
registration manager (registering.py), monitoring engine (monitoring.py), notification manager (session.py, and links.py for those
who are rung directly), all over one catalog (catalog.py). The shared-memory interface is pyx/kvoshim/_table.pyx and _monitor.pyx.
One thread, one event loop, no client that can hold up another."""
