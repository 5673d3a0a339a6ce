"""The registry's process: who is registered, published in shared memory that only it can write."""
