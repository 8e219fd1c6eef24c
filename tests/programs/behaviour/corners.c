/* What programs do in corners: namespaces, limits, odd names, filters that ask, groups of processes. */
#include "behaviour.h"
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>

static char self[4096];
static volatile sig_atomic_t caught, times;
static void note(int sig) { caught = sig; times++; }
static void catch_signal(int sig, int flags)
{
    struct sigaction a = {.sa_handler = note, .sa_flags = flags};
    sigaction(sig, &a, NULL);
}

/* --- processes and threads --- */
static void *spawns(void *total)
{
    for (int i = 0; i < 10; i++) {
        int s = 0; pid_t p = vfork();
        if (!p) { execl("/bin/sh", "sh", "-c", "exit 3", NULL); _exit(127); }
        waitpid(p, &s, 0);
        __atomic_add_fetch((int *)total, WEXITSTATUS(s), __ATOMIC_SEQ_CST);
    }
    return NULL;
}
static int vfork_exec_in_threads(void)
{
    pthread_t t[6]; int total = 0;
    for (int i = 0; i < 6; i++) pthread_create(&t[i], NULL, spawns, &total);
    for (int i = 0; i < 6; i++) pthread_join(t[i], NULL);
    SEEN("total %d", total);
    return 0;
}
static pthread_mutex_t never = PTHREAD_MUTEX_INITIALIZER;
static void *waits_for_lock(void *u) { pthread_mutex_lock(&never); return u; }
static void *comes_and_goes(void *u) { return u; }
static void *execs(void *u) { (void)u; nap(5); execl(self, self, "say", "after futex", NULL); return NULL; }
static int exec_beside_futexes(void)
{
    pthread_t t;
    pthread_mutex_lock(&never);
    for (int i = 0; i < 4; i++) pthread_create(&t, NULL, waits_for_lock, NULL);
    pthread_create(&t, NULL, execs, NULL);
    pthread_mutex_lock(&never);
    return 1;
}
static void *makes_threads(void *u)
{
    for (;;) {
        pthread_t t;
        if (!pthread_create(&t, NULL, comes_and_goes, NULL)) pthread_detach(t);
    }
    return u;
}
static int exec_beside_ending_threads(void)
{
    pthread_t t;
    for (int i = 0; i < 3; i++) pthread_create(&t, NULL, makes_threads, NULL);
    nap(20);
    execl(self, self, "say", "after threads", NULL);
    return 1;
}
static int clone_files_exec(void)
{
    int fd[2]; char c;
    if (pipe(fd)) return 1;
    pid_t p = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    if (!p) {
        /* exec gives it a table of its own: closing there closes nothing here. */
        char number[16];
        snprintf(number, sizeof number, "%d", fd[1]);
        execl("/bin/sh", "sh", "-c", "eval \"exec $0>&-\"; exit 4", number, NULL);
        _exit(1);
    }
    reap("child", p);
    SEEN("write %zd", write(fd[1], "x", 1));
    SEEN("read %zd", read(fd[0], &c, 1));
    return 0;
}
static int in_new_pid_namespace(void)
{
    int s;
    pid_t p = fork();
    if (!p) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWPID)) { SEEN("unshare: %s", strerror(errno)); _exit(1); }
        for (int i = 0; i < 2; i++) {
            pid_t q = fork();
            if (!q) {
                SEEN("inside I am %d", getpid());
                pid_t r = fork();
                if (!r) { for (;;) pause(); }
                SEEN("and made %d", r);
                _exit(9); /* the end of process 1 ends the namespace */
            }
            if (q < 0) { SEEN("fork: %s", strerror(errno)); continue; }
            waitpid(q, &s, 0); print_status("first", s);
        }
        _exit(0);
    }
    reap("child", p);
    return 0;
}
static int pid_used_again(void)
{
    int s, same = 0;
    pid_t p = fork();
    if (!p) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWPID)) { SEEN("unshare: %s", strerror(errno)); _exit(1); }
        pid_t first = fork();
        if (!first) {
            for (int i = 0; i < 30; i++) {
                int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
                if (write(fd, "100", 3) != 3) same = -100;
                close(fd);
                pid_t q = fork();
                if (!q) { int x[2]; if (pipe(x)) _exit(1); _exit(i & 1 ? 5 : 6); }
                waitpid(q, &s, 0);
                same += q == 101 && WEXITSTATUS(s) == (i & 1 ? 5 : 6);
            }
            SEEN("the same pid %d times", same);
            _exit(0);
        }
        waitpid(first, &s, 0);
        _exit(0);
    }
    reap("child", p);
    return 0;
}
static int user_namespace(void)
{
    uid_t before = geteuid();
    if (unshare(CLONE_NEWUSER)) { SEEN("unshare: %s", strerror(errno)); return 0; }
    SEEN("uid changed %d", geteuid() != before);
    int fd = open("/proc/self/uid_map", O_WRONLY); char map[32];
    int n = snprintf(map, sizeof map, "0 %d 1", before);
    ssize_t written = write(fd, map, n);
    SEEN("map %d, now %d", written == n, geteuid());
    pid_t p = fork();
    if (!p) _exit(geteuid());
    reap("child", p);
    return 0;
}
static int changed_root(void)
{
    char name[] = "/tmp/cornersXXXXXX";
    if (!mkdtemp(name) || chdir(name)) return 1;
    if (unshare(CLONE_NEWUSER) || chroot(".")) { SEEN("%s", strerror(errno)); rmdir(name); return 0; }
    SEEN("no /proc here %d", access("/proc/self", F_OK));
    pid_t p = fork();
    if (!p) {
        int fd[2]; char c;
        if (pipe(fd) || write(fd[1], "x", 1) != 1 || read(fd[0], &c, 1) != 1) _exit(1);
        execl("/bin/true", "true", NULL);
        _exit(errno == ENOENT ? 7 : 8);
    }
    reap("child", p);
    return 0;
}
static int own_tracer(void)
{
    pid_t p = fork();
    if (!p) { long r = ptrace(PTRACE_TRACEME, 0, 0, 0); _exit(r == 0 ? 1 : errno == EPERM ? 2 : 3); }
    int s;
    waitpid(p, &s, 0);
    SEEN("ended %d", WIFEXITED(s));
    return 0;
}
static int parent_death_signal(void)
{
    int fd[2]; char c;
    if (pipe(fd)) return 1;
    pid_t p = fork();
    if (!p) {
        pid_t q = fork();
        if (!q) {
            close(fd[0]);
            prctl(PR_SET_PDEATHSIG, SIGUSR1);
            catch_signal(SIGUSR1, 0);
            while (!caught) nap(1);
            _exit(write(fd[1], "d", 1) != 1);
        }
        nap(30);
        _exit(0);
    }
    close(fd[1]);
    reap("child", p);
    SEEN("orphan told us %zd", read(fd[0], &c, 1));
    return 0;
}
static int children_not_waited_for(void)
{
    signal(SIGCHLD, SIG_IGN);
    for (int i = 0; i < 20; i++) if (!fork()) _exit(i);
    int s; pid_t r;
    while ((r = wait(&s)) > 0) {}
    SEEN("wait %d %s", r, strerror(errno));
    return 0;
}
static int waits_with_waitid(void)
{
    siginfo_t i;
    pid_t p = fork();
    if (!p) { raise(SIGSTOP); _exit(11); }
    waitid(P_PID, p, &i, WSTOPPED); SEEN("%d %d", i.si_code == CLD_STOPPED, i.si_status);
    waitid(P_PID, p, &i, WSTOPPED | WNOWAIT | WNOHANG);
    kill(p, SIGCONT);
    waitid(P_PID, p, &i, WCONTINUED); SEEN("%d %d", i.si_code == CLD_CONTINUED, i.si_status);
    waitid(P_PID, p, &i, WEXITED | WNOWAIT); SEEN("%d %d", i.si_code == CLD_EXITED, i.si_status);
    waitid(P_PID, p, &i, WEXITED); SEEN("%d %d", i.si_code == CLD_EXITED, i.si_status);
    return 0;
}
static int group_signals(void)
{
    static const int numbers[] = {SIGUSR1, SIGUSR2, SIGALRM, SIGQUIT, SIGTERM, SIGHUP, SIGINT, SIGIO, SIGPROF};
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) catch_signal(numbers[i], SA_RESTART);
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        kill(0, numbers[i]);
        SEEN("caught %d", caught == numbers[i]);
    }
    nap(2600); /* longer than a program that is being ended is given */
    SEEN("still here, %d signals", times);
    return 0;
}
static void *holds_and_dies(void *mutex) { pthread_mutex_lock(mutex); return NULL; }
static int owner_died(void)
{
    pthread_mutex_t m; pthread_mutexattr_t a; pthread_t t;
    pthread_mutexattr_init(&a); pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&m, &a);
    pthread_create(&t, NULL, holds_and_dies, &m); pthread_join(t, NULL);
    SEEN("lock: owner died %d", pthread_mutex_lock(&m) == EOWNERDEAD);
    return 0;
}

/* --- signals and interrupted calls --- */
static int queued_in_order(void)
{
    sigset_t s; siginfo_t i; int wrong = 0;
    sigemptyset(&s); sigaddset(&s, SIGRTMIN + 3); sigprocmask(SIG_BLOCK, &s, NULL);
    for (int k = 0; k < 100; k++) sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = k});
    for (int k = 0; k < 100; k++) wrong += sigwaitinfo(&s, &i) != SIGRTMIN + 3 || i.si_value.sival_int != k || i.si_pid != getpid();
    SEEN("wrong %d", wrong);
    return 0;
}
static sigjmp_buf back;
static void overflowed(int sig) { (void)sig; siglongjmp(back, 1); }
static volatile int deep_enough;
__attribute__((noinline)) static int deeper(volatile char *p)
{
    volatile char more[4096];
    more[0] = *p;
    return deep_enough ? 0 : deeper(more) + more[0];
}
static int stack_overflow(void)
{
    static char stack[1 << 16]; stack_t st = {.ss_sp = stack, .ss_size = sizeof stack}; char c = 0;
    struct sigaction a = {.sa_handler = overflowed, .sa_flags = SA_ONSTACK};
    sigaltstack(&st, NULL); sigaction(SIGSEGV, &a, NULL);
    if (!sigsetjmp(back, 1)) deeper(&c);
    SEEN("came back");
    return 0;
}
static void alarm_in(long ms)
{
    struct itimerval t = {{0, 0}, {ms / 1000, ms % 1000 * 1000}};
    setitimer(ITIMER_REAL, &t, NULL);
}
static int masks_of_polls(void)
{
    sigset_t all, none; struct timespec t = {5, 0};
    sigfillset(&all); sigemptyset(&none);
    sigprocmask(SIG_BLOCK, &all, NULL);
    catch_signal(SIGALRM, 0);
    alarm_in(20); int r = ppoll(NULL, 0, &t, &none); SEEN("ppoll %d %s", r, strerror(errno));
    alarm_in(20); r = pselect(0, NULL, NULL, NULL, &t, &none); SEEN("pselect %d %s", r, strerror(errno));
    int e = epoll_create1(0); struct epoll_event got;
    alarm_in(20); r = epoll_pwait(e, &got, 1, 5000, &none); SEEN("epoll_pwait %d %s", r, strerror(errno));
    SEEN("caught %d", times);
    return 0;
}
static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}
static int waits_across_stops(void)
{
    int s, fd[2];
    if (pipe(fd)) return 1;
    for (int kind = 0; kind < 5; kind++) {
        pid_t p = fork();
        if (!p) {
            long long begun = now_ms(); int r = -2, e;
            struct timespec limit; sem_t sem; char c; struct timeval tv = {0, 400000};
            fd_set set; FD_ZERO(&set); FD_SET(fd[0], &set);
            struct pollfd pfd = {fd[0], POLLIN, 0};
            errno = 0;
            if (kind == 0) r = poll(&pfd, 1, 400);
            else if (kind == 1) { sem_init(&sem, 0, 0); clock_gettime(CLOCK_REALTIME, &limit); limit.tv_sec += 1; r = sem_timedwait(&sem, &limit); }
            else if (kind == 2) r = select(fd[0] + 1, &set, NULL, NULL, &tv);
            else if (kind == 3) { alarm_in(400); signal(SIGALRM, SIG_DFL); r = read(fd[0], &c, 1); }
            else { limit = (struct timespec){0, 400000000}; r = clock_nanosleep(CLOCK_MONOTONIC, 0, &limit, NULL); }
            e = errno;
            SEEN("kind %d: %d %s, whole %d", kind, r, strerror(e), now_ms() - begun >= 399);
            _exit(0);
        }
        nap(60);
        for (int round = 0; round < 3; round++) {
            kill(p, SIGSTOP); waitpid(p, &s, WUNTRACED);
            nap(5);
            kill(p, SIGCONT); waitpid(p, &s, WCONTINUED);
        }
        reap("child", p);
    }
    return 0;
}
static int profiled(void)
{
    struct itimerval t = {{0, 1000}, {0, 1000}};
    catch_signal(SIGPROF, SA_RESTART);
    setitimer(ITIMER_PROF, &t, NULL);
    int fd[2], wrong = 0; char c; volatile unsigned long spin = 0;
    if (pipe(fd)) return 1;
    while (times < 50) { wrong += write(fd[1], "x", 1) != 1 || read(fd[0], &c, 1) != 1; for (int i = 0; i < 10000; i++) spin++; }
    SEEN("wrong %d", wrong);
    return 0;
}
static int killed_by_each(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        if (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU || sig == 32 || sig == 33) continue;
        pid_t p = fork(); int s;
        if (!p) { signal(sig, SIG_DFL); kill(getpid(), sig); _exit(0); }
        waitpid(p, &s, 0);
        printf("%d:%x ", sig, s);
    }
    SEEN("end");
    return 0;
}
static int dumps_core(void)
{
    char name[] = "/tmp/cornersXXXXXX"; struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    if (!mkdtemp(name) || chdir(name)) return 1;
    setrlimit(RLIMIT_CORE, &all);
    pid_t p = fork(); int s;
    if (!p) abort();
    waitpid(p, &s, 0);
    SEEN("killed by %d, dumped %d", WTERMSIG(s), !!WCOREDUMP(s));
    return system("rm -rf \"$PWD\"") != 0;
}
static int stops_at_once(void)
{
    int s;
    for (int i = 0; i < 5; i++) {
        pid_t p = fork();
        if (!p) { execl("/bin/sh", "sh", "-c", "kill -STOP $$; exit 6", NULL); _exit(1); }
        waitpid(p, &s, WUNTRACED); print_status("child", s);
        kill(p, SIGCONT);
        reap("child", p);
    }
    return 0;
}
static int descriptors_that_tell(void)
{
    sigset_t s; struct signalfd_siginfo i; uint64_t n;
    sigemptyset(&s); sigaddset(&s, SIGUSR1); sigprocmask(SIG_BLOCK, &s, NULL);
    int g = signalfd(-1, &s, SFD_CLOEXEC), t = timerfd_create(CLOCK_REALTIME, 0);
    pid_t parent = getpid(), p = fork();
    if (!p) { nap(30); sigqueue(parent, SIGUSR1, (union sigval){.sival_int = 42}); _exit(0); }
    if (read(g, &i, sizeof i) != sizeof i) return 1;
    SEEN("signalfd %u from the child %d, value %d", i.ssi_signo, i.ssi_pid == (unsigned)p, i.ssi_int);
    struct itimerspec when = {{0, 5000000}, {0, 5000000}};
    timerfd_settime(t, 0, &when, NULL);
    nap(52);
    SEEN("timerfd %zd, %d times or more", read(t, &n, 8), n >= 10 ? 10 : (int)n);
    reap("child", p);
    return 0;
}

/* --- limits, names, numbers --- */
static int not_dumpable(void)
{
    int fd[2]; char c;
    prctl(PR_SET_DUMPABLE, 0);
    if (pipe(fd)) return 1;
    pid_t p = fork();
    if (!p) { pthread_t t; pthread_create(&t, NULL, comes_and_goes, NULL); pthread_join(t, NULL); _exit(write(fd[1], "x", 1) == 1 ? 4 : 5); }
    SEEN("read %zd", read(fd[0], &c, 1));
    reap("child", p);
    return 0;
}
static int limits(void)
{
    struct rlimit l = {1, 2};
    pid_t p = fork(); int s;
    if (!p) { setrlimit(RLIMIT_CPU, &l); for (volatile long i = 0;; i++) {} }
    reap("of CPU", p);
    p = fork();
    if (!p) { l = (struct rlimit){0, 0}; setrlimit(RLIMIT_FSIZE, &l); FILE *f = tmpfile(); _exit(f ? write(fileno(f), "x", 1) != -1 : 9); }
    waitpid(p, &s, 0); print_status("of files", s);
    l = (struct rlimit){16, 16}; setrlimit(RLIMIT_NOFILE, &l);
    int n = 0; while (dup(1) >= 0) n++;
    SEEN("of descriptors: %s", strerror(errno));
    return n > 16;
}
static int long_arguments(void)
{
    char *big = malloc(100001);
    memset(big, 'a', 100000); big[100000] = 0;
    execl(self, self, "length", big, NULL);
    return 1;
}
static int odd_names(void)
{
    char folder[] = "/tmp/cornersXXXXXX", odd[] = "\xff\xfe odd\n name";
    if (!mkdtemp(folder) || chdir(folder)) return 1;
    if (symlink(self, odd)) return 1;
    prctl(PR_SET_NAME, "\xc3(\n odd");
    pid_t p = fork();
    if (!p) { execl(odd, "\xff\xfe", "bytes", "\xff\x80", NULL); _exit(1); }
    reap("child", p);
    unlink(odd); rmdir(folder);
    return 0;
}
static int long_path(void)
{
    char folder[] = "/tmp/cornersXXXXXX", part[201]; int depth = 0;
    memset(part, 'p', 200); part[200] = 0;
    if (!mkdtemp(folder) || chdir(folder)) return 1;
    for (; depth < 24; depth++) if (mkdir(part, 0700) || chdir(part)) return 1;
    int fd = open("fifo", O_CREAT | O_RDWR, 0600);
    SEEN("write %zd far down", write(fd, "x", 1));
    if (symlink(self, "program")) return 1;
    pid_t p = fork();
    if (!p) { execl("./program", "program", "bytes", "far", NULL); _exit(1); }
    reap("child", p);
    if (chdir("/") || execl("/bin/rm", "rm", "-rf", folder, NULL)) return 1;
    return 1;
}
static int many_descriptors(void)
{
    struct rlimit l; int fd[2], last = 0, n = 0; char c;
    getrlimit(RLIMIT_NOFILE, &l); l.rlim_cur = l.rlim_max < 3000 ? l.rlim_max : 3000; setrlimit(RLIMIT_NOFILE, &l);
    if (pipe(fd)) return 1;
    for (int i; (i = dup(fd[1])) >= 0; n++) last = i;
    SEEN("more than 900 %d, %s", n > 900, strerror(errno));
    SEEN("write %zd", write(last, "x", 1));
    SEEN("read %zd", read(fd[0], &c, 1));
    SEEN("close_range %ld", syscall(SYS_close_range, 3, ~0U, 0));
    return 0;
}
static int without_streams(void)
{
    close(0); close(1);
    int fd[2];
    if (pipe(fd) || fd[0] != 0 || fd[1] != 1) return 1;
    pid_t p = fork();
    if (!p) _exit(write(1, "x", 1) == 1 ? 12 : 13);
    int s; waitpid(p, &s, 0);
    char c;
    return read(0, &c, 1) == 1 && WEXITSTATUS(s) == 12 ? 23 : 24;
}
static int device_full(void)
{
    int fd = open("/dev/full", O_WRONLY);
    ssize_t n = write(fd, "x", 1);
    SEEN("write %zd %s", n, strerror(errno));
    return 0;
}

/* --- filters --- */
static int supervised(void)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {sizeof f / sizeof *f, f};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    pid_t p = fork();
    if (!p) _exit(syscall(SYS_dup, 0) == 4711 ? 8 : 9);
    struct seccomp_notif request = {0};
    struct seccomp_notif_resp answer = {0};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request)) { SEEN("recv: %s", strerror(errno)); return 1; }
    SEEN("asked about dup %d", request.data.nr == SYS_dup);
    answer.id = request.id; answer.val = 4711;
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    reap("child", p);
    return 0;
}
static int filtered_call_of_ours(void)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENETDOWN), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {sizeof f / sizeof *f, f};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    SEEN("filter %ld", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program));
    long r = syscall(SYS_dup, 0);
    SEEN("dup %ld %s", r, strerror(errno));
    return 0;
}
static int strict_filter(void)
{
    pid_t p = fork();
    if (!p) {
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) _exit(3);
        if (write(1, "only four calls\n", 16) != 16) _exit(4);
        syscall(SYS_getpid);
        _exit(5);
    }
    reap("child", p);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behaviour table[] = {
        {"vfork-exec-in-threads", vfork_exec_in_threads}, {"exec-beside-futexes", exec_beside_futexes},
        {"exec-beside-ending-threads", exec_beside_ending_threads}, {"clone-files-exec", clone_files_exec},
        {"new-pid-namespace", in_new_pid_namespace}, {"pid-used-again", pid_used_again},
        {"user-namespace", user_namespace}, {"chroot", changed_root}, {"own-tracer", own_tracer},
        {"parent-death-signal", parent_death_signal}, {"children-not-waited-for", children_not_waited_for},
        {"waitid", waits_with_waitid}, {"group-signals", group_signals}, {"owner-died", owner_died},
        {"queued-in-order", queued_in_order}, {"stack-overflow", stack_overflow}, {"masks-of-polls", masks_of_polls},
        {"waits-across-stops", waits_across_stops}, {"profiled", profiled}, {"killed-by-each", killed_by_each},
        {"core", dumps_core}, {"stops-at-once", stops_at_once}, {"signalfd-and-timerfd", descriptors_that_tell},
        {"not-dumpable", not_dumpable}, {"limits", limits}, {"long-arguments", long_arguments},
        {"odd-names", odd_names}, {"long-path", long_path}, {"many-descriptors", many_descriptors},
        {"without-streams", without_streams}, {"device-full", device_full}, {"supervised", supervised},
        {"filtered-call", filtered_call_of_ours}, {"strict-filter", strict_filter}, {NULL, NULL}};
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return 98;
    if (argc == 3 && !strcmp(argv[1], "say")) { SEEN("%s", argv[2]); return 21; }
    if (argc == 3 && !strcmp(argv[1], "length")) { SEEN("%zu bytes", strlen(argv[2])); return 0; }
    if (argc == 3 && !strcmp(argv[1], "bytes")) { SEEN("%zu", strlen(argv[2])); return 0; }
    return run_named(table, argc, argv);
}
