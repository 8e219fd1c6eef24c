# cause:   a dispatcher selects over the pipes of two workers that have ended; it holds the write ends itself, so neither is readable
# verdict: orphaned (the writers that were have ended, and it is itself the last)
# chain:   main -poll (select)-> nobody
# fix:     close the write ends in the dispatcher after each fork
# expect:  verdict=orphaned pattern=own-write-end|producer-gone chain=poll/pipe-empty
import os
import select

inlets = []
for number in range(2):
    reader, writer = os.pipe()
    inlets.append(reader)
    if os.fork() == 0:
        os.write(writer, b"result %d\n" % number)
        os._exit(0)
missing = b""
while len(missing) < 100:
    ready, _, _ = select.select(inlets, [], [])  # link 1
    for reader in ready:
        missing += os.read(reader, 100)
