# cause:   a program writes more into its own pipe than fits, before it reads from it
# verdict: orphaned (the only reader is the writer)
# chain:   main -pipe-full-> main itself
# fix:     read from another thread, or use io.BytesIO
# expect:  verdict=orphaned pattern=self-pipe-full chain=pipe-full
import os

reader, writer = os.pipe()
written = 0
while written < 100_000:
    written += os.write(writer, b"%09d\n" % written)  # link 1
print(len(os.read(reader, written)))
