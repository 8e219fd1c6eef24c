/* What ptrace itself allows: a tracer that stops a tree at entry and exit of the given calls, asks what each
 * stop is, and keeps nothing.
 *
 *   empty_loop NUMBER,NUMBER,... PROGRAM [ARGUMENT...]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <linux/ptrace.h> /* after sys/ptrace.h, whose names it would take */
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_CALLS = 200, OPTIONS = PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK
       | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACESECCOMP };

static int install_filter(char *numbers)
{
    struct sock_filter code[2 * MOST_CALLS + 2];
    unsigned short length = 0;
    code[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (char *word = strtok(numbers, ","); word && length < 2 * MOST_CALLS; word = strtok(NULL, ",")) {
        code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, atoi(word), 0, 1);
        code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    }
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {length, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int count, char **words)
{
    int go[2], status, root_status = 1 << 8;
    if (count < 3 || pipe(go))
        return 2;
    pid_t root = fork();
    if (root == 0) {
        char byte;
        close(go[1]);
        if (read(go[0], &byte, 1) != 1 || install_filter(words[1]))
            _exit(126);
        close(go[0]);
        execvp(words[2], words + 2);
        _exit(127);
    }
    if (ptrace(PTRACE_SEIZE, root, 0, OPTIONS) || write(go[1], "g", 1) != 1)
        return 2;
    close(go[0]);
    close(go[1]);
    for (;;) {
        struct ptrace_syscall_info info;
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0 && errno == ECHILD)
            break;
        if (!WIFSTOPPED(status)) {
            if (tid == root)
                root_status = status;
            continue;
        }
        int event = status >> 16, number = WSTOPSIG(status);
        if (event == PTRACE_EVENT_SECCOMP) {
            ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info);
            ptrace(PTRACE_SYSCALL, tid, 0, 0);
        } else if (number == (SIGTRAP | 0x80)) {
            ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info);
            ptrace(PTRACE_CONT, tid, 0, 0);
        } else if (event) {
            ptrace(PTRACE_CONT, tid, 0, 0);
        } else {
            ptrace(PTRACE_CONT, tid, 0, number);
        }
    }
    return WIFEXITED(root_status) ? WEXITSTATUS(root_status) : 1;
}
