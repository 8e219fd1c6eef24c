# cause:   four threads are to meet at a barrier; one of them raises on its way
# verdict: orphaned (the fourth never comes)
# chain:   main -thread-join-> a swimmer ; swimmer -condition (barrier)-> the missing one
# fix:     barrier.abort() where a participant fails
# expect:  verdict=orphaned|deadlock pattern=missing-participant chain=thread-join>condition/lock
import threading

threading.excepthook = lambda arguments: None
start_line = threading.Barrier(4)


def swim(lane):
    if lane == 2:
        raise ValueError("cramp")
    start_line.wait()  # link 2


swimmers = [threading.Thread(target=swim, args=(lane,), name=f"lane-{lane}") for lane in range(4)]
for swimmer in swimmers:
    swimmer.start()
for swimmer in swimmers:
    swimmer.join()  # link 1
