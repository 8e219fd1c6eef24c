# cause:   check_output-like code waits for a noisy command whose error output goes into a pipe that nobody reads
# verdict: deadlock (cycle of two)
# chain:   main -child-exit-> sh ; sh -pipe-full (its stderr)-> main
# fix:     communicate(), or stderr=DEVNULL
# expect:  verdict=deadlock pattern=popen-pipe-full chain=child-exit>pipe-full
import subprocess

command = "i=0; while [ $i -lt 9000 ]; do echo warning $i >&2; i=$((i+1)); done"
noisy = subprocess.Popen(["sh", "-c", command], stderr=subprocess.PIPE)
print("exit status", noisy.wait())  # link 1
print(noisy.stderr.read().decode())
