"""The main job in one command: live values observed across processes, and unmodified programs over shared memory."""
