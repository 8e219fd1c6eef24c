# cause:   a multiprocessing Listener waits for its first client
# expect:  verdict=external pattern=-
from multiprocessing.connection import Listener

with Listener(family="AF_UNIX") as listener:
    with listener.accept() as connection:
        print(connection.recv())
