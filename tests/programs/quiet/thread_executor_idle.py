# cause:   idle executor threads under a UDP server that has no client yet
# expect:  verdict=external pattern=-
import socket
from concurrent.futures import ThreadPoolExecutor

with ThreadPoolExecutor(3) as executor, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    print(list(executor.map(abs, [-1, -2, -3])), flush=True)
    server.bind(("127.0.0.1", 0))
    executor.submit(print, server.recvfrom(100)).result()
