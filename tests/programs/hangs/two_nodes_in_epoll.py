# cause:   two nodes of a ring run a protocol over Unix sockets, and each waits in its selector for the other's token
# verdict: deadlock (cycle of two)
# chain:   main -poll (epoll, one socket)-> node ; node -poll (epoll, one socket)-> main
# fix:     one node creates the token
# expect:  verdict=deadlock pattern=both-ends-empty|- chain=poll/socket-empty>poll/socket-empty
import os
import selectors
import socket


def node(neighbour):
    neighbour.setblocking(False)
    with selectors.EpollSelector() as selector:
        selector.register(neighbour, selectors.EVENT_READ)
        while True:
            for _ in selector.select():  # link 1 2
                neighbour.send(neighbour.recv(16))


left, right = socket.socketpair()
if os.fork() == 0:
    left.close()
    node(right)
right.close()
node(left)
