# cause:   client and server over TCP on this host both send a large body before they receive
# verdict: deadlock (cycle of two)
# chain:   client -socket-full-> server ; server -socket-full-> client
# fix:     one side receives first, or sends from a thread of its own
# expect:  verdict=deadlock pattern=both-ends-full chain=socket-full>socket-full pythons=3.8+
import os
import socket

BODY = bytes(32_000_000)


def serve(listener):
    peer, _ = listener.accept()
    peer.sendall(BODY)
    peer.recv(1)
    os._exit(0)


with socket.create_server(("127.0.0.1", 0)) as listener:
    address = listener.getsockname()
    if os.fork() == 0:
        serve(listener)
client = socket.create_connection(address)
client.sendall(BODY)  # link 1
print(len(client.recv(100)))
