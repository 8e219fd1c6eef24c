/* How a tree of processes and threads can change. */
#include "behaviour.h"
#include <linux/sched.h>

extern char **environ;
static char child_stack[1 << 16] __attribute__((aligned(16)));

static int fork_and_wait(void)
{
    pid_t p = fork();
    if (!p) _exit(getppid() > 1 ? 7 : 8);
    reap("child", p);
    return 0;
}
static int vfork_and_wait(void)
{
    pid_t p = vfork();
    if (!p) _exit(3);
    reap("child", p);
    return 0;
}
static int vfork_exec(void)
{
    pid_t p = vfork();
    if (!p) {
        execl("/bin/sh", "sh", "-c", "exit 5", NULL);
        _exit(127);
    }
    reap("child", p);
    return 0;
}
static void *add_one(void *n) { ++*(int *)n; return n; }
static int thread_and_join(void)
{
    pthread_t t; int n = 1; void *out;
    pthread_create(&t, NULL, add_one, &n);
    pthread_join(t, &out);
    SEEN("thread returned %d", *(int *)out);
    return 0;
}
static int thousand_threads(void)
{
    int n = 0;
    for (int i = 0; i < 1000; i++) {
        pthread_t t;
        if (pthread_create(&t, NULL, add_one, &n)) return 1;
        pthread_join(t, NULL);
    }
    SEEN("%d threads", n);
    return 0;
}
static int five_hundred_children(void)
{
    int total = 0;
    for (int i = 0; i < 500; i++) {
        pid_t p = fork(); int s;
        if (!p) _exit(i & 7);
        waitpid(p, &s, 0);
        total += WEXITSTATUS(s);
    }
    SEEN("total %d", total);
    return 0;
}
static int children_at_once(void)
{
    int total = 0, s;
    for (int i = 0; i < 50; i++) if (!fork()) _exit(i & 3);
    while (wait(&s) > 0) total += WEXITSTATUS(s);
    SEEN("total %d, then %s", total, strerror(errno));
    return 0;
}
static int clone3_process(void)
{
    struct clone_args a = {.exit_signal = SIGCHLD};
    pid_t p = syscall(SYS_clone3, &a, sizeof a);
    if (!p) _exit(11);
    reap("child", p);
    return 0;
}
static int clone3_pidfd(void)
{
    int fd = -1; siginfo_t i = {0};
    struct clone_args a = {.exit_signal = SIGCHLD, .flags = CLONE_PIDFD, .pidfd = (unsigned long)&fd};
    pid_t p = syscall(SYS_clone3, &a, sizeof a);
    if (!p) _exit(12);
    waitid(P_PIDFD, fd, &i, WEXITED);
    SEEN("pidfd: code %d status %d", i.si_code, i.si_status);
    return 0;
}
static int exits_21(void *unused) { (void)unused; _exit(21); }
static int closes_three(void *fd) { close(*(int *)fd); _exit(0); }
static int writes_memory(void *word) { *(int *)word = 42; _exit(0); }
static int clone_parent(void)
{
    /* The grandchild is made a sibling of its maker: the first process may wait for it. */
    int pipefd[2]; pid_t made = 0;
    if (pipe(pipefd)) return 1;
    pid_t p = fork();
    if (!p) {
        pid_t g = clone(exits_21, child_stack + sizeof child_stack, CLONE_PARENT, NULL);
        if (write(pipefd[1], &g, sizeof g) < 0) _exit(1);
        _exit(0);
    }
    if (read(pipefd[0], &made, sizeof made) < 0) return 1;
    reap("child", p);
    int s; pid_t got = waitpid(made, &s, __WALL);
    SEEN("sibling %s", got == made ? "waited for" : strerror(errno));
    if (got == made) print_status("sibling", s);
    return 0;
}
static int clone_files(void)
{
    int fd = open("/dev/null", O_RDONLY);
    pid_t p = clone(closes_three, child_stack + sizeof child_stack, CLONE_FILES | SIGCHLD, &fd);
    reap("child", p);
    SEEN("shared descriptor is %s", fcntl(fd, F_GETFD) < 0 ? "closed" : "open");
    return 0;
}
static int clone_vm_process(void)
{
    int word = 0;
    pid_t p = clone(writes_memory, child_stack + sizeof child_stack, CLONE_VM | SIGCHLD, &word);
    reap("child", p);
    SEEN("word %d", word);
    return 0;
}
static int clone_untraced(void)
{
    pid_t p = clone(exits_21, child_stack + sizeof child_stack, CLONE_UNTRACED | SIGCHLD, NULL);
    reap("child", p);
    return 0;
}
static int clone_no_signal(void)
{
    pid_t p = clone(exits_21, child_stack + sizeof child_stack, 0, NULL); int s;
    SEEN("plain waitpid: %d", waitpid(p, &s, 0) == p);
    SEEN("with __WALL: %d", waitpid(p, &s, __WALL) == p);
    return 0;
}
static int spawn(void)
{
    char *argv[] = {"sh", "-c", "exit 9", NULL}; pid_t p;
    if (posix_spawn(&p, "/bin/sh", NULL, NULL, argv, environ)) return 1;
    reap("child", p);
    return 0;
}
static int spawn_missing(void)
{
    char *argv[] = {"no", NULL}; pid_t p;
    SEEN("posix_spawn: %s", strerror(posix_spawn(&p, "/no/such/program", NULL, NULL, argv, environ)));
    return 0;
}
static int double_fork(void)
{
    int fd[2]; char c = 0;
    if (pipe(fd)) return 1;
    pid_t p = fork();
    if (!p) {
        if (!fork()) {
            close(fd[0]);
            while (getppid() != 1 && getppid() == p) nap(1);
            if (write(fd[1], "d", 1) < 0) _exit(1);
            _exit(0);
        }
        _exit(0);
    }
    close(fd[1]);
    reap("middle", p);
    SEEN("daemon wrote %zd", read(fd[0], &c, 1));
    SEEN("then end of file: %zd", read(fd[0], &c, 1));
    return 0;
}
static int subreaper(void)
{
    int s, total = 0;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t p = fork();
    if (!p) {
        if (!fork()) { nap(50); _exit(4); }
        _exit(2);
    }
    while (wait(&s) > 0) total += WEXITSTATUS(s);
    SEEN("total of both %d", total);
    return 0;
}
static int sessions(void)
{
    pid_t p = fork();
    if (!p) {
        int own = setsid() == getpid();
        SEEN("setsid %d, leader of its group %d", own, getpgrp() == getpid());
        _exit(0);
    }
    reap("child", p);
    return 0;
}
static int process_groups(void)
{
    pid_t p = fork();
    if (!p) { nap(5000); _exit(0); }
    SEEN("setpgid %d", setpgid(p, p));
    SEEN("kill of the group %d", kill(-p, SIGTERM));
    reap("child", p);
    return 0;
}
static void *forks(void *unused)
{
    (void)unused;
    pid_t p = fork();
    if (!p) _exit(6);
    reap("child of the thread", p);
    return NULL;
}
static int fork_in_thread(void)
{
    pthread_t t;
    pthread_create(&t, NULL, forks, NULL);
    pthread_join(t, NULL);
    return 0;
}
static void *exits_group(void *unused) { (void)unused; nap(20); exit(33); }
static int exit_group_by_thread(void)
{
    pthread_t t;
    pthread_create(&t, NULL, exits_group, NULL);
    for (;;) pause();
    return 0;
}
static void *goes_on(void *unused) { (void)unused; nap(50); SEEN("thread goes on"); exit(14); }
static int main_thread_ends_first(void)
{
    pthread_t t;
    pthread_create(&t, NULL, goes_on, NULL);
    pthread_exit(NULL);
}
static int zombie_stays(void)
{
    siginfo_t i = {0};
    pid_t p = fork();
    if (!p) _exit(1);
    waitid(P_PID, p, &i, WEXITED | WNOWAIT);
    SEEN("seen %d, still there %d", i.si_status, kill(p, 0) == 0);
    reap("child", p);
    return 0;
}
static int no_hang(void)
{
    int fd[2], s; char c;
    if (pipe(fd)) return 1;
    pid_t p = fork();
    if (!p) { close(fd[1]); if (read(fd[0], &c, 1) < 0) _exit(1); _exit(0); }
    SEEN("WNOHANG: %d", waitpid(p, &s, WNOHANG));
    close(fd[1]);
    reap("child", p);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behaviour table[] = {
        {"fork", fork_and_wait}, {"vfork", vfork_and_wait}, {"vfork-exec", vfork_exec},
        {"thread", thread_and_join}, {"thousand-threads", thousand_threads},
        {"five-hundred-children", five_hundred_children}, {"children-at-once", children_at_once},
        {"clone3", clone3_process}, {"clone3-pidfd", clone3_pidfd}, {"clone-parent", clone_parent},
        {"clone-files", clone_files}, {"clone-vm", clone_vm_process}, {"clone-untraced", clone_untraced},
        {"clone-no-signal", clone_no_signal}, {"posix-spawn", spawn}, {"posix-spawn-missing", spawn_missing},
        {"double-fork", double_fork}, {"subreaper", subreaper}, {"setsid", sessions},
        {"process-group", process_groups}, {"fork-in-thread", fork_in_thread},
        {"exit-group-by-thread", exit_group_by_thread}, {"main-thread-ends-first", main_thread_ends_first},
        {"wnowait", zombie_stays}, {"wnohang", no_hang}, {NULL, NULL}};
    return run_named(table, argc, argv);
}
