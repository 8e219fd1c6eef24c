# cause:   a child of the fork server waits for a command on its connection; the parent joins it without having sent one
# verdict: deadlock (the parent waits for the child's end, the child for the parent's command)
# chain:   main -sentinel-> (the fork server, which reports the child's end ->) child ; child -socket-empty-> main
# fix:     send the last command before join()
# expect:  verdict=deadlock pattern=missing-sentinel|- chain=child-exit/poll>child-exit/poll/pipe-empty/signal?>socket-empty
import multiprocessing


def robot(commands):
    while commands.recv() != "off":  # link -1
        pass


if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    remote, receiver = context.Pipe()
    process = context.Process(target=robot, args=(receiver,), name="robot")
    process.start()
    receiver.close()
    remote.send("forward")
    process.join()  # link 1
    remote.send("off")
