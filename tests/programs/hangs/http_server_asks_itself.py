# cause:   a single-threaded HTTPServer: its handler calls another URL of the same server
# verdict: deadlock (the only server thread waits for itself)
# chain:   main -poll/recv(TCP EMPTY)-> server thread -recvfrom(TCP EMPTY)-> the same server thread (accept)
# fix:     ThreadingHTTPServer
# expect:  verdict=orphaned|deadlock pattern=event-loop-blocked chain=socket-empty>socket-empty
import http.server, threading, urllib.request

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"data"
        if self.path == "/page":
            body = urllib.request.urlopen(url + "/data").read()     # BUG: only one thread serves
        self.send_response(200); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass

srv = http.server.HTTPServer(("127.0.0.1", 0), Handler)
url = "http://127.0.0.1:%d" % srv.server_address[1]
threading.Thread(target=srv.serve_forever, name="server", daemon=True).start()
print(urllib.request.urlopen(url + "/page").read())
