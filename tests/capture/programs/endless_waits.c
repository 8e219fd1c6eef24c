/* Waits, in the call that its argument names, until it is woken by SIGUSR1 or a byte on its standard input; then it
   says how the call ended. A tracer that comes and goes must not be what ended it. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>

static int queue, semaphores;
static void post(int sig)
{
    struct sembuf up = {1, 1, 0};
    (void)sig;
    semop(semaphores, &up, 1);
}
static int over_epoll(int limit_ms)
{
    struct epoll_event event = {.events = EPOLLIN}, got;
    queue = epoll_create1(0);
    epoll_ctl(queue, EPOLL_CTL_ADD, 0, &event);
    return epoll_pwait(queue, &got, 1, limit_ms, NULL);
}
static int by_signal(void)
{
    sigset_t set;
    sigemptyset(&set); sigaddset(&set, SIGUSR1); sigprocmask(SIG_BLOCK, &set, NULL);
    return sigwaitinfo(&set, NULL) == SIGUSR1 ? 1 : -1;
}
static int on_semaphore(int handled)
{
    struct sembuf down = {0, -1, 0};
    semaphores = semget(IPC_PRIVATE, 2, 0600);
    if (handled) signal(SIGUSR1, post);
    int r = semop(semaphores, &down, 1);
    int e = errno;
    semctl(semaphores, 0, IPC_RMID);
    errno = e;
    return r;
}

int main(int argc, char **argv)
{
    int r = -1;
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "epoll")) r = over_epoll(-1);
    else if (!strcmp(what, "epoll-with-limit")) r = over_epoll(50000);
    else if (!strcmp(what, "sigwaitinfo")) r = by_signal();
    else if (!strcmp(what, "semop-and-handler")) r = on_semaphore(1);
    printf("%d %s\n", r, r < 0 ? strerror(errno) : "in order");
    return 0;
}
