"""One small web application, for WSGI and for ASGI servers. It answers with bytes that its path asks for."""

import hashlib


def answer(path: str, body: bytes) -> list[bytes]:
    """PREFIX/bytes/N: N bytes; PREFIX/parts/N: N parts of 1000 bytes; else what was posted, as length and digest."""
    *_, what, argument = ["", "", *path.split("/")]
    if what == "bytes":
        return [(b"0123456789abcdef" * (int(argument) // 16 + 1))[:int(argument)]]
    if what == "parts":
        return [bytes([97 + i % 26]) * 1000 for i in range(int(argument))]
    return [f"{len(body)} {hashlib.sha256(body).hexdigest()}\n".encode()]


def wsgi(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    parts = answer(environ["PATH_INFO"], body)
    headers = [("Content-Type", "text/plain")]
    if len(parts) == 1:
        headers.append(("Content-Length", str(len(parts[0]))))
    start_response("200 OK", headers)
    return parts


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    parts = answer(scope["path"], body)
    headers = [(b"content-type", b"text/plain")]
    if len(parts) == 1:
        headers.append((b"content-length", str(len(parts[0])).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
