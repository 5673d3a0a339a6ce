"""The smallest web application, for WSGI and for ASGI servers: a page of SIZE bytes (environment), whatever is asked for."""

import os

BODY = b"x" * int(os.environ.get("SIZE", "1000"))
LENGTH = str(len(BODY))


def wsgi(_environ, start_response):
    """One page."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", LENGTH)])
    return [BODY]


async def asgi(scope, _receive, send):
    """One page."""
    if scope["type"] == "http":
        headers = [(b"content-type", b"text/plain"), (b"content-length", LENGTH.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})
