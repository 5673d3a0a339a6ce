"""A small HTTP server of the standard library on a Unix socket. Word: the socket's path (a leading @: an abstract name)."""

import http.server
import socketserver
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        kind, _, number = self.path.strip("/").partition("/")
        if kind == "bytes":
            self.answer((b"0123456789abcde\n" * (int(number) // 16 + 1))[:int(number)])
        elif kind == "chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(int(number)):
                self.wfile.write(b"%x\r\n%s\r\n" % (i % 5000 + 1, b"c" * (i % 5000 + 1)))
            self.wfile.write(b"0\r\n\r\n")
        elif kind == "short":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"s" * int(number))
            self.close_connection = True
        elif kind == "redirect":
            self.send_response(302)
            self.send_header("Location", "/bytes/10")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.answer(b"nothing here\n", 404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    do_PUT = do_POST


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


path = sys.argv[1]
with Server("\0" + path[1:] if path.startswith("@") else path, Handler) as server:
    server.serve_forever()
