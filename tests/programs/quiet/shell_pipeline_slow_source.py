# cause:   a pipeline of commands whose first one writes nothing for a minute
# expect:  verdict=timed pattern=-
import subprocess

print(subprocess.run("(sleep 60; echo done) | sort | cat", shell=True, stdout=subprocess.PIPE).stdout)
