/* A 32-bit program: calls whose struct timespec has 32-bit words, each slept in once; then it becomes a 64-bit one. */
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

struct short_time { int seconds, nanoseconds; };

int main(void)
{
    struct short_time a = {0, 2000001}, b = {0, 3000002}, c = {0, 4000003};
    int word = 0;
    long one = syscall(162, &a, NULL), two = syscall(267, 1, 0, &b, NULL), three = syscall(240, &word, 128, 0, &c);
    printf("%ld %ld %d\n", one, two, three < 0 ? errno : 0);
    fflush(stdout);
    execl("/bin/echo", "echo", "64 bits", NULL);
    return 1;
}
