# cause:   a tool leaves a helper behind that inherited its output; the parent reads to the end of file, and the helper waits for orders that only the parent could give
# verdict: deadlock (parent waits for the helper to close its output, the helper for the parent)
# chain:   main -pipe-empty (the tool's output)-> helper ; helper -pipe-empty (its orders)-> main
# fix:     give the helper an output of its own, or close the orders' end first
# expect:  verdict=deadlock pattern=grandchild-holds-pipe|inherited-write-end|- chain=pipe-empty>pipe-empty
import subprocess

tool = subprocess.Popen(["sh", "-c", "exec 3<&0; cat <&3 & echo started"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(tool.stdout.read().decode())  # link 1
tool.stdin.close()
tool.wait()
