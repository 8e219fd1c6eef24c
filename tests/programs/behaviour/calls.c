/* Calls that a tracer looks into, and filters and tracers of the program's own. */
#include "behaviour.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

static int pipes(void)
{
    int fd[2]; char text[16] = {0};
    if (pipe2(fd, O_CLOEXEC)) return 1;
    ssize_t w = write(fd[1], "hello", 5), r = read(fd[0], text, sizeof text);
    SEEN("%zd %zd %s", w, r, text);
    close(fd[1]);
    SEEN("end of file %zd", read(fd[0], text, 1));
    return 0;
}
static int full_pipe(void)
{
    int fd[2]; static char big[300000]; size_t total = 0; ssize_t n; int s;
    if (pipe(fd)) return 1;
    pid_t p = fork();
    if (!p) { close(fd[0]); _exit(write(fd[1], big, sizeof big) == sizeof big ? 0 : 1); }
    close(fd[1]);
    nap(30);
    while ((n = read(fd[0], big, 4096)) > 0) total += n;
    SEEN("read %zu", total);
    waitpid(p, &s, 0); print_status("writer", s);
    return 0;
}
static int polls(void)
{
    int fd[2]; struct pollfd p[2];
    if (pipe(fd)) return 1;
    p[0] = (struct pollfd){fd[0], POLLIN, 0}; p[1] = (struct pollfd){fd[1], POLLOUT, 0};
    SEEN("poll %d %x", poll(p, 1, 20), p[0].revents);
    SEEN("poll %d", poll(p, 2, -1));
    fd_set r; struct timeval t = {0, 10000};
    FD_ZERO(&r); FD_SET(fd[0], &r);
    SEEN("select %d", select(fd[0] + 1, &r, NULL, NULL, &t));
    return 0;
}
static int epolls(void)
{
    int fd[2], e = epoll_create1(0); struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 5}, out[4];
    if (pipe(fd)) return 1;
    epoll_ctl(e, EPOLL_CTL_ADD, fd[0], &ev);
    SEEN("epoll %d", epoll_wait(e, out, 4, 20));
    if (write(fd[1], "x", 1) < 0) return 1;
    int n = epoll_wait(e, out, 4, -1);
    SEEN("epoll %d, told %u", n, out[0].data.u32);
    return 0;
}
static int events(void)
{
    int fd = eventfd(3, 0); uint64_t n = 4;
    if (write(fd, &n, 8) != 8 || read(fd, &n, 8) != 8) return 1;
    SEEN("eventfd %llu", (unsigned long long)n);
    int t = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec when = {{0, 0}, {0, 20000000}};
    timerfd_settime(t, 0, &when, NULL);
    if (read(t, &n, 8) != 8) return 1;
    SEEN("timerfd %llu", (unsigned long long)n);
    sigset_t s; struct signalfd_siginfo i;
    sigemptyset(&s); sigaddset(&s, SIGUSR1); sigprocmask(SIG_BLOCK, &s, NULL);
    int g = signalfd(-1, &s, 0);
    raise(SIGUSR1);
    if (read(g, &i, sizeof i) != sizeof i) return 1;
    SEEN("signalfd %u", i.ssi_signo);
    return 0;
}
static int passes_descriptor(void)
{
    int pair[2], fd[2]; char c = 'x', control[CMSG_SPACE(sizeof(int))];
    struct iovec v = {&c, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || pipe(fd)) return 1;
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_RIGHTS; h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &fd[1], sizeof(int));
    pid_t p = fork();
    if (!p) {
        int got;
        if (recvmsg(pair[1], &m, 0) != 1) _exit(1);
        memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof got);
        _exit(write(got, "through", 7) == 7 ? 0 : 2);
    }
    if (sendmsg(pair[0], &m, 0) != 1) return 1;
    char text[16] = {0};
    if (read(fd[0], text, 15) < 0) return 1;
    SEEN("%s", text);
    reap("child", p);
    return 0;
}
static int local_socket(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    socklen_t n = offsetof(struct sockaddr_un, sun_path) + 1 + snprintf(a.sun_path + 1, 40, "behaviour%d", getpid());
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(s, (void *)&a, n) || listen(s, 1)) return 1;
    pid_t p = fork();
    if (!p) {
        int c = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(c, (void *)&a, n)) _exit(1);
        _exit(send(c, "hi", 2, 0) == 2 ? 0 : 2);
    }
    char text[8] = {0};
    int c = accept(s, NULL, NULL);
    SEEN("recv %zd %s", recv(c, text, 7, 0), text);
    reap("child", p);
    return 0;
}
static int duplicates(void)
{
    int a = open("/dev/null", O_RDONLY), b = dup(a), c = dup2(a, 100), d = dup3(a, 101, O_CLOEXEC), e = fcntl(a, F_DUPFD, 200);
    SEEN("dup %d dup2 %d dup3 %d F_DUPFD %d", b > a, c, d, e);
    SEEN("close_range %ld, then %d", syscall(SYS_close_range, 100, 300, 0), fcntl(101, F_GETFD));
    return 0;
}
static int vectors(void)
{
    int fd[2]; char a[3] = {0}, b[8] = {0};
    struct iovec out[2] = {{"ab", 2}, {"cdef", 4}}, in[2] = {{a, 2}, {b, 7}};
    if (pipe(fd)) return 1;
    ssize_t w = writev(fd[1], out, 2), r = readv(fd[0], in, 2);
    SEEN("%zd %zd %s %s", w, r, a, b);
    FILE *f = tmpfile();
    w = pwrite(fileno(f), "0123456789", 10, 0); r = pread(fileno(f), b, 4, 3);
    b[4] = 0;
    SEEN("%zd %zd %s", w, r, b);
    return 0;
}
static int file_locks(void)
{
    FILE *f = tmpfile(); char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fileno(f));
    flock(fileno(f), LOCK_EX);
    pid_t p = fork();
    if (!p) {
        int other = open(name, O_RDWR);
        int refused = flock(other, LOCK_EX | LOCK_NB);
        SEEN("LOCK_NB %d %s", refused, strerror(errno));
        _exit(flock(other, LOCK_EX));
    }
    nap(50);
    flock(fileno(f), LOCK_UN);
    close(fileno(f));
    reap("child", p);
    return 0;
}
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int turn;
static void *takes_turns(void *unused)
{
    (void)unused;
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % 2 == 0) pthread_cond_wait(&condition, &mutex);
        turn++;
        pthread_cond_signal(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}
static int turns(void)
{
    pthread_t t;
    pthread_create(&t, NULL, takes_turns, NULL);
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % 2 == 1) pthread_cond_wait(&condition, &mutex);
        turn++;
        pthread_cond_signal(&condition);
        pthread_mutex_unlock(&mutex);
    }
    pthread_join(t, NULL);
    SEEN("%d turns", turn);
    return 0;
}
static int install_filter(unsigned action)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {sizeof f / sizeof *f, f};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
static int own_filter(void)
{
    SEEN("filter %d", install_filter(SECCOMP_RET_ERRNO | ENETDOWN));
    errno = 0;
    long r = syscall(SYS_getppid);
    SEEN("getppid %ld %s", r, strerror(errno));
    return pipes();
}
static void on_sys(int sig, siginfo_t *i, void *unused)
{
    (void)unused;
    SEEN("signal %d for the call %d", sig, i->si_syscall == SYS_getppid);
}
static int filter_traps(void)
{
    struct sigaction a = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &a, NULL);
    SEEN("filter %d", install_filter(SECCOMP_RET_TRAP));
    syscall(SYS_getppid);
    return 0;
}
static int filter_kills(void)
{
    int s;
    pid_t p = fork();
    if (!p) { install_filter(SECCOMP_RET_KILL_PROCESS); syscall(SYS_getppid); _exit(0); }
    waitpid(p, &s, 0);
    SEEN("killed by SIGSYS %d", WIFSIGNALED(s) && WTERMSIG(s) == SIGSYS);
    return 0;
}
static int unknown_call(void)
{
    long r = syscall(9999);
    SEEN("call 9999: %ld %s", r, strerror(errno));
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behaviour table[] = {
        {"pipe", pipes}, {"full-pipe", full_pipe}, {"poll-and-select", polls}, {"epoll", epolls},
        {"eventfd-timerfd-signalfd", events}, {"scm-rights", passes_descriptor}, {"unix-socket", local_socket},
        {"dup-and-close-range", duplicates}, {"vectors", vectors}, {"flock", file_locks}, {"turns", turns},
        {"own-filter", own_filter}, {"filter-traps", filter_traps}, {"filter-kills", filter_kills},
        {"unknown-call", unknown_call}, {NULL, NULL}};
    return run_named(table, argc, argv);
}
