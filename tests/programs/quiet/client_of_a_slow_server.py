# cause:   a child asks an HTTP server in its parent for a page, which takes the server a minute
# expect:  verdict=timed|external pattern=-
import http.server
import multiprocessing
import time
import urllib.request


class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(60)
        self.send_response(204)
        self.end_headers()


def ask(port):
    urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()


if __name__ == "__main__":
    with http.server.HTTPServer(("127.0.0.1", 0), Slow) as server:
        client = multiprocessing.get_context("fork").Process(target=ask, args=(server.server_address[1],))
        client.start()
        server.handle_request()
        client.join()
