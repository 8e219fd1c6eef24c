/* Signals, stops and interrupted calls. */
#include "behaviour.h"
#include <sys/ptrace.h>
#include <sys/time.h>

static volatile sig_atomic_t caught, last_code, last_value, order[8], n_order;

static void note(int sig, siginfo_t *i, void *unused)
{
    (void)unused;
    caught = sig; last_code = i->si_code; last_value = i->si_value.sival_int;
    if (n_order < 8) order[n_order++] = i->si_value.sival_int;
}
static void catch_signal(int sig, int flags)
{
    struct sigaction a = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | flags};
    sigaction(sig, &a, NULL);
}
static void alarm_in(long ms)
{
    struct itimerval t = {{0, 0}, {ms / 1000, ms % 1000 * 1000}};
    setitimer(ITIMER_REAL, &t, NULL);
}
static int handler(void)
{
    catch_signal(SIGUSR1, 0);
    kill(getpid(), SIGUSR1);
    SEEN("caught %d code %d", caught, last_code == SI_USER);
    return 0;
}
static int queued(void)
{
    catch_signal(SIGUSR2, 0);
    union sigval v = {.sival_int = 77};
    sigqueue(getpid(), SIGUSR2, v);
    SEEN("caught %d code %d value %d", caught, last_code == SI_QUEUE, last_value);
    return 0;
}
static int real_time_order(void)
{
    sigset_t s;
    catch_signal(SIGRTMIN, 0); catch_signal(SIGRTMIN + 1, 0);
    sigemptyset(&s); sigaddset(&s, SIGRTMIN); sigaddset(&s, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &s, NULL);
    for (int i = 0; i < 4; i++) sigqueue(getpid(), SIGRTMIN + (i & 1), (union sigval){.sival_int = i});
    sigprocmask(SIG_UNBLOCK, &s, NULL);
    SEEN("%d signals, values sum %d", n_order, order[0] + order[1] + order[2] + order[3]);
    return 0;
}
static int dies_of_term(void) { kill(getpid(), SIGTERM); return 1; }
static int dies_of_kill(void) { kill(getpid(), SIGKILL); return 1; }
static int dies_of_segv(void) { signal(SIGSEGV, SIG_DFL); kill(getpid(), SIGSEGV); pause(); return 1; }
static int faults(void) { volatile int *p = (int *)8; return *p; }
static int aborts(void) { abort(); }
static int child_faults(void)
{
    pid_t p = fork();
    if (!p) faults();
    reap("child", p);
    return 0;
}
static int fault_info(void)
{
    catch_signal(SIGSEGV, SA_RESETHAND);
    pid_t p = fork();
    if (!p) { faults(); _exit(0); }
    reap("child", p);
    return 0;
}
static int child_signal(void)
{
    sigset_t s; siginfo_t i;
    sigemptyset(&s); sigaddset(&s, SIGCHLD); sigprocmask(SIG_BLOCK, &s, NULL);
    pid_t p = fork();
    if (!p) _exit(13);
    sigwaitinfo(&s, &i);
    SEEN("SIGCHLD from the child %d, code %d, status %d", i.si_pid == p, i.si_code == CLD_EXITED, i.si_status);
    reap("child", p);
    return 0;
}
static int read_interrupted(void)
{
    int fd[2]; char c;
    if (pipe(fd)) return 1;
    catch_signal(SIGALRM, 0); alarm_in(50);
    ssize_t n = read(fd[0], &c, 1);
    SEEN("read %zd %s", n, strerror(errno));
    return 0;
}
static int fd_to_feed;
static void feed(int sig) { (void)sig; if (write(fd_to_feed, "x", 1) < 0) _exit(1); }
static int read_restarted(void)
{
    int fd[2]; char c = 0;
    if (pipe(fd)) return 1;
    fd_to_feed = fd[1];
    struct sigaction a = {.sa_handler = feed, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &a, NULL); alarm_in(50);
    ssize_t n = read(fd[0], &c, 1);
    SEEN("read %zd '%c'", n, c);
    return 0;
}
static int sleep_interrupted(void)
{
    struct timespec t = {5, 0}, left = {0, 0};
    catch_signal(SIGALRM, 0); alarm_in(50);
    int r = nanosleep(&t, &left);
    SEEN("nanosleep %d %s, most is left %d", r, strerror(errno), left.tv_sec >= 4);
    return 0;
}
static int poll_interrupted(void)
{
    catch_signal(SIGALRM, SA_RESTART); alarm_in(50);
    int r = poll(NULL, 0, 5000);
    SEEN("poll %d %s", r, strerror(errno));
    return 0;
}
static int semaphore_interrupted(void)
{
    sem_t s;
    sem_init(&s, 0, 0);
    catch_signal(SIGALRM, 0); alarm_in(50);
    int r = sem_wait(&s);
    SEEN("sem_wait %d %s", r, strerror(errno));
    return 0;
}
static int timed_wait(void)
{
    sigset_t s; struct timespec t = {0, 20000000};
    sigemptyset(&s); sigaddset(&s, SIGUSR1); sigprocmask(SIG_BLOCK, &s, NULL);
    int r = sigtimedwait(&s, NULL, &t);
    SEEN("sigtimedwait %d %s", r, strerror(errno));
    return 0;
}
static int suspends(void)
{
    sigset_t block, none;
    sigemptyset(&none); sigemptyset(&block); sigaddset(&block, SIGALRM);
    sigprocmask(SIG_BLOCK, &block, NULL);
    catch_signal(SIGALRM, 0); alarm_in(30);
    int r = sigsuspend(&none);
    SEEN("sigsuspend %d %s, caught %d", r, strerror(errno), caught);
    return 0;
}
static int pauses(void)
{
    catch_signal(SIGALRM, 0); alarm_in(30);
    int r = pause();
    SEEN("pause %d %s", r, strerror(errno));
    return 0;
}
static int own_trap(void)
{
    catch_signal(SIGTRAP, 0);
    raise(SIGTRAP);
    SEEN("caught %d code %d", caught, last_code == SI_TKILL);
    return 0;
}
static int breakpoint(void)
{
    catch_signal(SIGTRAP, 0);
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("int3");
#else
    raise(SIGTRAP);
#endif
    SEEN("caught %d", caught);
    return 0;
}
static int dies_of_trap(void) { raise(SIGTRAP); return 1; }
static int pending(void)
{
    sigset_t s, p;
    sigemptyset(&s); sigaddset(&s, SIGUSR1); sigprocmask(SIG_BLOCK, &s, NULL);
    catch_signal(SIGUSR1, 0);
    kill(getpid(), SIGUSR1); kill(getpid(), SIGUSR1);
    sigpending(&p);
    SEEN("pending %d, caught %d", sigismember(&p, SIGUSR1), caught);
    sigprocmask(SIG_UNBLOCK, &s, NULL);
    SEEN("caught %d, times %d", caught, n_order);
    return 0;
}
static int ignored(void)
{
    signal(SIGTERM, SIG_IGN);
    SEEN("kill %d and alive", kill(getpid(), SIGTERM));
    return 0;
}
static volatile pid_t handled_by;
static void who(int sig) { (void)sig; handled_by = gettid(); }
static void *waits_for_signal(void *tid)
{
    *(volatile pid_t *)tid = gettid();
    while (!handled_by) nap(1);
    return NULL;
}
static int to_a_thread(void)
{
    pthread_t t; volatile pid_t tid = 0;
    signal(SIGUSR1, who);
    pthread_create(&t, NULL, waits_for_signal, (void *)&tid);
    while (!tid) nap(1);
    syscall(SYS_tgkill, getpid(), tid, SIGUSR1);
    pthread_join(t, NULL);
    SEEN("handled by the thread %d", handled_by == tid);
    return 0;
}
static int stop_and_continue(void)
{
    int s;
    pid_t p = fork();
    if (!p) { raise(SIGSTOP); for (;;) pause(); }
    waitpid(p, &s, WUNTRACED); print_status("child", s);
    kill(p, SIGCONT);
    waitpid(p, &s, WCONTINUED); print_status("child", s);
    kill(p, SIGTERM);
    reap("child", p);
    return 0;
}
static int stop_from_outside(void)
{
    int s;
    pid_t p = fork();
    if (!p) for (;;) nap(1000);
    kill(p, SIGSTOP);
    waitpid(p, &s, WUNTRACED); print_status("child", s);
    nap(30);
    SEEN("still stopped %d", waitpid(p, &s, WNOHANG | WCONTINUED) == 0);
    kill(p, SIGCONT);
    waitpid(p, &s, WCONTINUED); print_status("child", s);
    kill(p, SIGKILL);
    reap("child", p);
    return 0;
}
static int killed_while_stopped(void)
{
    int s;
    pid_t p = fork();
    if (!p) { raise(SIGSTOP); _exit(17); }
    waitpid(p, &s, WUNTRACED); print_status("child", s);
    kill(p, SIGKILL);
    reap("child", p);
    return 0;
}
static int terminal_stop(void)
{
    int s;
    pid_t p = fork();
    if (!p) { setpgid(0, 0); raise(SIGTSTP); _exit(18); }
    setpgid(p, p);
    waitpid(p, &s, WUNTRACED); print_status("child", s);
    kill(p, SIGCONT);
    reap("child", p);
    return 0;
}
static int continue_is_caught(void)
{
    int s;
    pid_t p = fork();
    if (!p) { catch_signal(SIGCONT, 0); raise(SIGSTOP); _exit(caught == SIGCONT ? 5 : 6); }
    waitpid(p, &s, WUNTRACED); print_status("child", s);
    kill(p, SIGCONT);
    reap("child", p);
    return 0;
}
static int interrupts_of_its_own(void)
{
    pid_t p = fork();
    if (!p) { raise(SIGINT); _exit(1); }
    reap("raised", p);
    p = fork();
    if (!p) for (;;) pause();
    kill(p, SIGINT);
    reap("sent", p);
    return 0;
}
static int sleep_across_a_stop(void)
{
    int s; struct timespec a, b;
    pid_t p = fork();
    if (!p) {
        clock_gettime(CLOCK_MONOTONIC, &a);
        struct timespec t = {0, 600000000};
        int r = nanosleep(&t, NULL);
        clock_gettime(CLOCK_MONOTONIC, &b);
        long ms = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
        SEEN("nanosleep %d, whole %d", r, ms >= 599);
        _exit(0);
    }
    nap(20);
    kill(p, SIGSTOP);
    waitpid(p, &s, WUNTRACED); print_status("child", s);
    kill(p, SIGCONT);
    reap("child", p);
    return 0;
}
static int threads_stop(void)
{
    int s;
    pid_t p = fork();
    if (!p) {
        pthread_t t; volatile pid_t tid = 0;
        signal(SIGUSR1, who);
        pthread_create(&t, NULL, waits_for_signal, (void *)&tid);
        while (!tid) nap(1);
        raise(SIGSTOP);
        handled_by = 1;
        pthread_join(t, NULL);
        _exit(19);
    }
    waitpid(p, &s, WUNTRACED); print_status("child", s);
    kill(p, SIGCONT);
    reap("child", p);
    return 0;
}
static int alternate_stack(void)
{
    stack_t st = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
    sigaltstack(&st, NULL);
    catch_signal(SIGUSR1, SA_ONSTACK);
    raise(SIGUSR1);
    SEEN("caught %d", caught);
    return 0;
}
static int broken_pipe(void)
{
    int fd[2];
    if (pipe(fd)) return 1;
    close(fd[0]);
    return write(fd[1], "x", 1) < 0;
}
static int broken_pipe_ignored(void)
{
    int fd[2];
    if (pipe(fd)) return 1;
    close(fd[0]);
    signal(SIGPIPE, SIG_IGN);
    ssize_t n = write(fd[1], "x", 1);
    SEEN("write %zd %s", n, strerror(errno));
    return 0;
}
static int signal_storm(void)
{
    catch_signal(SIGUSR1, SA_RESTART);
    pid_t parent = getpid(), p = fork();
    if (!p) { for (int i = 0; i < 2000; i++) kill(parent, SIGUSR1); _exit(0); }
    reap("child", p);
    SEEN("caught %d", caught == SIGUSR1);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behaviour table[] = {
        {"handler", handler}, {"sigqueue", queued}, {"real-time-order", real_time_order},
        {"dies-of-term", dies_of_term}, {"dies-of-kill", dies_of_kill}, {"dies-of-segv", dies_of_segv},
        {"faults", faults}, {"aborts", aborts}, {"child-faults", child_faults}, {"fault-handled-once", fault_info},
        {"sigchld-info", child_signal}, {"read-eintr", read_interrupted}, {"read-restarted", read_restarted},
        {"nanosleep-eintr", sleep_interrupted}, {"poll-eintr", poll_interrupted}, {"sem-wait-eintr", semaphore_interrupted},
        {"sigtimedwait", timed_wait}, {"sigsuspend", suspends}, {"pause", pauses}, {"own-sigtrap", own_trap},
        {"breakpoint", breakpoint}, {"dies-of-trap", dies_of_trap}, {"pending", pending}, {"ignored", ignored},
        {"tgkill", to_a_thread}, {"stop-and-continue", stop_and_continue}, {"stop-from-outside", stop_from_outside},
        {"killed-while-stopped", killed_while_stopped}, {"sigtstp", terminal_stop}, {"sigcont-caught", continue_is_caught},
        {"sleep-across-a-stop", sleep_across_a_stop},
        {"own-interrupts", interrupts_of_its_own}, {"threads-stop", threads_stop}, {"sigaltstack", alternate_stack},
        {"sigpipe", broken_pipe}, {"sigpipe-ignored", broken_pipe_ignored}, {"signal-storm", signal_storm},
        {NULL, NULL}};
    return run_named(table, argc, argv);
}
