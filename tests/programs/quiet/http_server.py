# cause:   an HTTP server that nobody asks for anything
# expect:  verdict=external|timed pattern=-
from http.server import HTTPServer, SimpleHTTPRequestHandler

HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler).serve_forever()
