# cause:   a command takes a minute
# expect:  verdict=timed pattern=-
import subprocess

print(subprocess.run(["sleep", "60"], capture_output=True).returncode)
