# cause:   a client connects to a Unix socket whose queue is full; its server accepts nobody until the client has sent its settings through a pipe
# verdict: deadlock (the client waits for the server to accept, the server for the client's settings)
# chain:   main -connect-> server ; server -pipe-empty-> main
# fix:     accept first, or send the settings before connecting
# expect:  verdict=deadlock pattern=- chain=connect>pipe-empty
import os
import socket

address = b"\0backlog-of-one-%d" % os.getpid()
settings, outlet = os.pipe()
if os.fork() == 0:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(0)
    os.close(outlet)
    os.read(settings, 1)
    os.read(settings, 100)  # link 2
    listener.accept()
    os._exit(0)
os.close(settings)
os.write(outlet, b"s")
clients = []
while len(clients) < 8:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(address)  # link 1
    except ConnectionRefusedError:
        client.close()
        continue
    clients.append(client)
os.write(outlet, b"settings")
