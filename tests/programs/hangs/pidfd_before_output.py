# cause:   the parent polls a child's pidfd and reads its output afterwards, which is larger than the pipe
# verdict: deadlock (cycle of two)
# chain:   main -child-exit (pidfd)-> child ; child -pipe-full-> main
# fix:     watch the pidfd and the pipe together
# expect:  verdict=deadlock pattern=popen-pipe-full|join-before-drain chain=child-exit/poll>pipe-full pythons=3.9+
import os
import select

reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        output.write(bytes(250_000))  # link 2
    os._exit(0)
os.close(writer)
watch = select.poll()
watch.register(os.pidfd_open(child), select.POLLIN)
watch.poll()  # link 1
print(len(os.read(reader, 1_000_000)))
