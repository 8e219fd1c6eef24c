# cause:   two processes talk over two named pipes, and both read first; the names are gone, so nobody else can join them
# verdict: deadlock (cycle of two)
# chain:   main -pipe-empty (FIFO b)-> peer ; peer -pipe-empty (FIFO a)-> main
# fix:     one side writes first
# expect:  verdict=deadlock pattern=both-ends-empty chain=pipe-empty>pipe-empty
import os
import shutil
import tempfile

folder = tempfile.mkdtemp()
first, second = os.path.join(folder, "a"), os.path.join(folder, "b")
os.mkfifo(first)
os.mkfifo(second)
if os.fork() == 0:
    requests, replies = open(first, "rb"), open(second, "wb")
    print(requests.readline())  # link 2
    replies.write(b"reply\n")
    os._exit(0)
requests, replies = open(first, "wb"), open(second, "rb")
shutil.rmtree(folder)
print(replies.readline())  # link 1
requests.write(b"request\n")
