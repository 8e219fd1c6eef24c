/* Programs that become other programs. The program runs itself again, as `execs say WORD`. */
#include "behaviour.h"
#include <sys/stat.h>

extern char **environ;
static char self[4096];

static char *say[] = {self, "say", "again", NULL};

static int become(void) { execv(self, say); return 1; }
static int fails(void)
{
    execl("/no/such/program", "no", NULL);
    SEEN("exec: %s", strerror(errno));
    execl("/etc", "no", NULL);
    SEEN("exec: %s", strerror(errno));
    return 0;
}
static void *becomes(void *unused) { (void)unused; execv(self, say); return NULL; }
static int by_a_thread(void)
{
    pthread_t t;
    pthread_create(&t, NULL, becomes, NULL);
    for (;;) pause();
    return 1;
}
static void *idles(void *unused) { (void)unused; for (;;) nap(1000); return NULL; }
static int with_threads(void)
{
    pthread_t t;
    for (int i = 0; i < 8; i++) pthread_create(&t, NULL, idles, NULL);
    execv(self, say);
    return 1;
}
static int by_a_thread_with_others(void)
{
    pthread_t t;
    for (int i = 0; i < 4; i++) pthread_create(&t, NULL, idles, NULL);
    return by_a_thread();
}
static int by_descriptor(void)
{
    int fd = open(self, O_RDONLY);
    fexecve(fd, say, environ);
    return 1;
}
static int of_a_script(void)
{
    char name[] = "/tmp/behaviourXXXXXX";
    int fd = mkstemp(name);
    dprintf(fd, "#!/bin/sh\nrm -- \"$0\"\necho from the script $1\nexit 3\n");
    fchmod(fd, 0700);
    close(fd);
    execl(name, name, "word", NULL);
    return 1;
}
static int close_on_exec(void)
{
    int kept = open("/dev/null", O_RDONLY), gone = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char a[16], b[16];
    snprintf(a, sizeof a, "%d", kept);
    snprintf(b, sizeof b, "%d", gone);
    execl(self, self, "open", a, b, NULL);
    return 1;
}
static int in_a_row(void)
{
    execl(self, self, "row", "20", NULL);
    return 1;
}
static int in_children(void)
{
    int total = 0, s;
    for (int i = 0; i < 40; i++)
        if (!fork()) { execl("/bin/sh", "sh", "-c", "exit 2", NULL); _exit(1); }
    while (wait(&s) > 0) total += WEXITSTATUS(s);
    SEEN("total %d", total);
    return 0;
}
static int pipeline(void)
{
    return WEXITSTATUS(system("seq 1 1000 | sort -rn | head -3 | tr '\\n' ' '; exit 4"));
}
static int killed_in_exec(void)
{
    for (int i = 0; i < 20; i++) {
        int s;
        pid_t p = fork();
        if (!p) { execl("/bin/sleep", "sleep", "100", NULL); _exit(1); }
        kill(p, SIGKILL);
        waitpid(p, &s, 0);
        if (!WIFSIGNALED(s)) print_status("child", s);
    }
    SEEN("all killed");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behaviour table[] = {
        {"exec", become}, {"exec-fails", fails}, {"exec-by-thread", by_a_thread}, {"exec-with-threads", with_threads},
        {"exec-by-thread-with-others", by_a_thread_with_others}, {"fexecve", by_descriptor}, {"exec-script", of_a_script},
        {"close-on-exec", close_on_exec}, {"execs-in-a-row", in_a_row}, {"exec-in-children", in_children},
        {"pipeline", pipeline}, {"killed-in-exec", killed_in_exec}, {NULL, NULL}};
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return 98;
    if (argc == 3 && !strcmp(argv[1], "say")) { SEEN("%s, a leader %d", argv[2], gettid() == getpid()); return 21; }
    if (argc == 4 && !strcmp(argv[1], "open")) {
        SEEN("open %d %d", fcntl(atoi(argv[2]), F_GETFD) >= 0, fcntl(atoi(argv[3]), F_GETFD) >= 0);
        return 0;
    }
    if (argc == 3 && !strcmp(argv[1], "row")) {
        char left[16];
        snprintf(left, sizeof left, "%d", atoi(argv[2]) - 1);
        if (atoi(argv[2])) execl(self, self, "row", left, NULL);
        SEEN("end of the row");
        return 0;
    }
    return run_named(table, argc, argv);
}
