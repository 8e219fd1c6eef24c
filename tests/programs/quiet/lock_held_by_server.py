# cause:   a thread waits for a lock which the main thread holds while it waits for a client
# expect:  verdict=external pattern=-
import socket
import threading

configuration = threading.Lock()


def reload():
    with configuration:
        print("reloaded")


with socket.create_server(("127.0.0.1", 0)) as server, configuration:
    threading.Thread(target=reload, name="reloader").start()
    server.accept()
