# cause:   fork server and resource tracker are idle; main waits for datagrams on a Unix socket
# expect:  verdict=external pattern=-
import multiprocessing
import os
import socket

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=print, args=("a task",))
    process.start()
    process.join()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"\0datagrams-{os.getpid()}")
        print(server.recv(100))
