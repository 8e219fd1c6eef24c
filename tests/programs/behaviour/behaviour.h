/* One behaviour a name: the program prints what it saw, so that a run under a tracer can be compared. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct behaviour {
    const char *name;
    int (*run)(void);
};

#define SEEN(...)            \
    do {                     \
        printf(__VA_ARGS__); \
        putchar('\n');       \
        fflush(stdout);      \
    } while (0)

static inline void print_status(const char *who, int status)
{
    if (WIFEXITED(status)) SEEN("%s exited %d", who, WEXITSTATUS(status));
    else if (WIFSIGNALED(status)) SEEN("%s killed by %d", who, WTERMSIG(status));
    else if (WIFSTOPPED(status)) SEEN("%s stopped by %d", who, WSTOPSIG(status));
    else if (WIFCONTINUED(status)) SEEN("%s continued", who);
}

static inline void reap(const char *who, pid_t child)
{
    int status;
    pid_t got = waitpid(child, &status, 0);
    if (got != child) SEEN("%s: waitpid failed: %s", who, strerror(errno));
    else print_status(who, status);
}

static inline void nap(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&t, &t) && errno == EINTR) {}
}

static inline int run_named(const struct behaviour *table, int argc, char **argv)
{
    for (const struct behaviour *b = table; b->name; b++) {
        if (argc < 2) puts(b->name);
        else if (!strcmp(b->name, argv[1])) return b->run();
    }
    return argc < 2 ? 0 : 99;
}
