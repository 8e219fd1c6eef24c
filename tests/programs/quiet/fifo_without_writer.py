# cause:   a program opens a named pipe and waits for somebody to open its other end
# expect:  verdict=external pattern=-
import os
import tempfile

with tempfile.TemporaryDirectory(dir=".") as folder:
    name = os.path.join(folder, "commands")
    os.mkfifo(name)
    with open(name) as commands:
        print(commands.readline())
