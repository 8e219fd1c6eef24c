# cause:   a threading server in a thread; a client in a process of its own is connected and thinks for a long time
# expect:  verdict=timed|external pattern=-
import multiprocessing
import socket
import socketserver
import threading
import time


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


def client(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while True:
            connection.sendall(b"hello\n")
            connection.recv(100)
            time.sleep(80)


if __name__ == "__main__":
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        person = multiprocessing.get_context("fork").Process(target=client, args=(server.server_address[1],))
        person.start()
        person.join()
