"""The controller process: IPC listener (loop.py), sessions with clients (session.py), registration manager
and monitoring engine (catalog.py). One thread, one event loop, no client that can hold up another."""
