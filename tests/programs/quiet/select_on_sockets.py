# cause:   a single-threaded server selects over its TCP and its UDP socket
# expect:  verdict=external pattern=-
import select
import socket

tcp = socket.create_server(("127.0.0.1", 0))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
print(select.select([tcp, udp], [], []))
