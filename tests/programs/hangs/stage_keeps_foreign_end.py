# cause:   of two pipeline stages forked one after the other, the second inherited the write end of the first one's input: its end of file never comes
# verdict: deadlock (parent waits for the first stage, the first for the second to close, the second for the parent)
# chain:   main -child-exit-> first stage ; first stage -pipe-empty-> second stage (inherited write end) ; second stage -pipe-empty-> main
# fix:     close foreign ends in every child, or make the descriptors not inheritable and exec
# expect:  verdict=deadlock pattern=inherited-write-end chain=child-exit>pipe-empty>pipe-empty
import os


def stage():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        while os.read(reader, 4096):  # link 2 3
            pass
        os._exit(0)
    os.close(reader)
    return pid, writer


first, to_first = stage()
second, to_second = stage()
os.write(to_first, b"work for the first")
os.close(to_first)
os.waitpid(first, 0)  # link 1
os.close(to_second)
os.waitpid(second, 0)
