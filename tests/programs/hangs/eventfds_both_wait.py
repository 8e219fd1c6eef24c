# cause:   two processes hand a turn to each other with two eventfds, and each waits for its own turn first
# verdict: deadlock (cycle of two)
# chain:   main -eventfd-> partner ; partner -eventfd-> main
# fix:     give one of them the first turn: an initial value of 1
# expect:  verdict=deadlock pattern=both-ends-empty|- chain=eventfd>eventfd
import ctypes
import os

eventfd = ctypes.CDLL(None).eventfd
turns = [eventfd(0, 0), eventfd(0, 0)]
ONE = (1).to_bytes(8, "little")
me, partner = (0, 1) if os.fork() else (1, 0)
for move in range(10):
    os.read(turns[me], 8)  # link 1 2
    os.write(turns[partner], ONE)
