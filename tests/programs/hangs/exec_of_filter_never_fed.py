# cause:   a child becomes `sort` by exec with a pipe as its input; the parent waits for it while it still holds the write end
# verdict: deadlock (the parent waits for sort, sort for the end of its input)
# chain:   main -child-exit-> sort ; sort -pipe-empty-> main
# fix:     close the write end before waitpid()
# expect:  verdict=deadlock pattern=missing-sentinel|inherited-write-end|- chain=child-exit>pipe-empty
import os

reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.dup2(reader, 0)
    os.close(writer)
    os.execvp("sort", ["sort", "--numeric-sort"])
os.close(reader)
os.write(writer, b"3\n1\n2\n")
os.waitid(os.P_PID, child, os.WEXITED)  # link 1
