# cause:   the parent writes all of the input of a filter before it reads any of its output: both pipes fill
# verdict: deadlock (cycle of two)
# chain:   main -pipe-full (the filter's stdin)-> cat ; cat -pipe-full (its stdout)-> main
# fix:     communicate(input=...), which does both at once
# expect:  verdict=deadlock pattern=popen-pipe-full|both-ends-full chain=pipe-full>pipe-full
import subprocess

text = b"all work and no play\n" * 20_000
with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as cat:
    cat.stdin.write(text)  # link 1
    cat.stdin.close()
    print(len(cat.stdout.read()))
