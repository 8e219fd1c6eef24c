# cause:   a helper in the background keeps a command's output open for a minute; the reader waits for the end of it
# expect:  verdict=timed pattern=-|grandchild-holds-pipe
import subprocess

print(subprocess.check_output(["sh", "-c", "sleep 60 & echo started"]))
