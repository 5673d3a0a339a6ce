"""Drop-in for the standard socket module."""
from socket import *  # noqa: F401,F403
