/* storm PROCESSES AT_ONCE: processes of four threads each; every thread writes three times to /dev/null. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int nowhere;

static void *writes(void *unused)
{
    (void)unused;
    for (int i = 0; i < 3; i++)
        if (write(nowhere, "x", 1) != 1) abort();
    return NULL;
}

static int process(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, writes, NULL)) return 1;
    writes(NULL);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    return 7;
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    int all = atoi(argv[1]), at_once = atoi(argv[2]), running = 0, sum = 0, status;
    nowhere = open("/dev/null", O_WRONLY);
    for (int i = 0; i < all; i++) {
        if (running == at_once && wait(&status) > 0) { running--; sum += WEXITSTATUS(status); }
        pid_t child = fork();
        if (child < 0) return 3;
        if (!child) _exit(process());
        running++;
    }
    while (wait(&status) > 0) sum += WEXITSTATUS(status);
    printf("sum %d\n", sum);
    return 0;
}
