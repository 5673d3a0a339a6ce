"""The controller process, a daemon of the process layer (daemon.py): IPC listener (listener.py, service.py),
sessions with clients (session.py), registration manager and monitoring engine (catalog.py). One thread, one event
loop, no client that can hold up another."""
