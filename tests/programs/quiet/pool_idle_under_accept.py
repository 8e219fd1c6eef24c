# cause:   a pool has done its first task; its owner waits for a client
# expect:  verdict=external pattern=-
import multiprocessing
import socket

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool, socket.create_server(("127.0.0.1", 0)) as server:
        print(pool.apply(abs, (-2,)), flush=True)
        server.accept()
