# cause:   the sched module sleeps until its next event
# expect:  verdict=timed pattern=-
import sched
import time

timetable = sched.scheduler()
for minute in (1, 2, 3):
    timetable.enter(60 * minute, 1, print, ("ding",))
timetable.enter(0, 1, print, ("start",), {"flush": True})
timetable.run(blocking=True)
time.sleep(1)
