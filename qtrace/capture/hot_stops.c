/* The hot stops of the ptrace loop, in C: entries and exits of read, write, futex and their kin.
 *
 * hot_stops_wait() takes the place of waitpid(2) in qtrace/capture/loop.py: it waits for a stop, and handles it if
 * it is one of the two hot ones of a thread that the loop has made known, of a call about which nothing is left
 * to look up. All other stops it gives back untouched, and the loop does what it does without this file: what is
 * decided here is decided in Python as well, and nothing is decided here alone.
 *
 * One thread calls it, without the interpreter's lock. Other threads look into the shared memory meanwhile: at the
 * ring of ended calls, whose places are counted up and never back, and at calls in progress, each under a number
 * that is odd while it is written.
 *
 * It is a mere shared library, and uses nothing of Python: one build serves every interpreter.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <linux/ptrace.h> /* after sys/ptrace.h, whose names it would take */
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PTRACE_EVENT_SECCOMP
#define PTRACE_EVENT_SECCOMP 7
#endif

enum { CALLS = 512, FDS = 1024, WORDS = 256, THREADS = 4096, TIDS = 65536, RECORDS = 4096, QUEUE = 1024, SIGNALS = 65 };
/* Nanoseconds: a yield that lasts longer is a loss; so much lost ends the turns for a pause; a short one is a gain. */
enum { LONG_YIELD = 300000, MOST_LOST = 10000000, A_GAIN = 5000 };
static const int64_t FIRST_PAUSE = 100000000, LAST_PAUSE = 16000000000;
enum how { BY_PYTHON, PLAIN, USES_FD, READS, WRITES, USES_WORD, CLONES, WAITS_FOR };
enum { UNTRACED = 0x800000 }; /* CLONE_UNTRACED, linux/sched.h */
enum { FD_UNKNOWN, FD_WITHOUT_HEAD, FD_WITH_HEAD };
enum { SECCOMP_STOP = PTRACE_EVENT_SECCOMP << 16 | SIGTRAP << 8 | 0x7F, CALL_STOP = (SIGTRAP | 0x80) << 8 | 0x7F };
enum { HAS_HEAD = 2 }; /* CallFlag.HAS_HEAD */

/* An ended call, as qtrace.model.records.CALL_STRUCT packs it. */
struct __attribute__((packed)) record {
    int64_t start, duration;
    int32_t tid, pid;
    int16_t number;
    uint16_t flags;
    int64_t result;
    uint64_t arguments[6], head;
};

/* What is known of one process. */
struct known {
    uint8_t fds[FDS];         /* what a descriptor is */
    uint64_t words[WORDS];    /* futex words that have been looked up: a hash set without removal */
    uint32_t words_held;
    uint32_t enough_private;  /* private words are not looked up any more */
};

struct thread {
    int32_t tid, pid;
    uint32_t version;         /* odd while the rest is written */
    uint32_t in_call;
    int64_t start;
    uint64_t words[7];        /* number and arguments */
    uint64_t head;
    uint64_t flags;
    struct known *known;
    int64_t memory;           /* a descriptor of its memory (/proc/TID/mem), or -1 */
};

struct stop {
    int64_t time;             /* when it was seen; 0 for right now */
    const struct ptrace_syscall_info *info; /* if the kernel has been asked already */
    int32_t tid, status;
};

/* The order in which threads run on while tracer and tracees share a CPU. */
struct turns {
    uint32_t stops;           /* so many stops of one thread come before those of others; 0: as they come */
    uint32_t first, queued;   /* of the queue */
    uint32_t lost;            /* nanoseconds of long yields, less what was gained since */
    int64_t not_before;       /* no turns until then */
    int64_t pause;            /* the last time between two tries */
    struct stop queue[QUEUE]; /* hot stops that were put off, in a ring */
};

struct shared {
    uint64_t handled;         /* stops, since the beginning */
    uint64_t ended, taken;    /* records put into the ring, and taken out of it, since the beginning */
    uint32_t architecture;    /* AUDIT_ARCH of the calls that are understood here */
    uint32_t entries_slowly;  /* give back every entry */
    uint32_t waits;           /* commands of futex(2) that wait, a bit each */
    uint32_t word_command, word_private; /* bits of its operation */
    uint32_t stopped_status;  /* of the stop that is given back */
    uint8_t entry[CALLS], exit[CALLS];   /* enum how, by number */
    uint16_t place[TIDS];     /* by the low half of a tid: its place among the threads; 0 for none */
    struct turns turns;
    struct thread threads[THREADS];
    struct record ring[RECORDS];
};

static volatile sig_atomic_t has_signal;
static struct sigaction before[SIGNALS];

/* Return what tells one build's layout from another's. */
uint64_t hot_stops_layout(void)
{
    uint64_t sizes = (uint64_t)offsetof(struct shared, ring) << 44 | (uint64_t)offsetof(struct shared, threads) << 24
        | sizeof(struct known) << 8 | sizeof(struct thread);
    return sizes ^ (uint64_t)WAITS_FOR << 60;
}

static void note(int number, siginfo_t *info, void *context)
{
    has_signal = 1;
    if (before[number].sa_flags & SA_SIGINFO)
        before[number].sa_sigaction(number, info, context);
    else if (before[number].sa_handler != SIG_DFL && before[number].sa_handler != SIG_IGN)
        before[number].sa_handler(number);
}

/* Prepare the process: a stop is waited for, and no signal has to tell of it. */
int hot_stops_begin(void)
{
    struct sigaction action;
    if (sigaction(SIGCHLD, NULL, &action))
        return -1;
    action.sa_flags |= SA_NOCLDSTOP;
    return sigaction(SIGCHLD, &action, NULL);
}

/* Have a signal that Python handles end hot_stops_wait too. It must have a handler already. */
int hot_stops_heed(int number)
{
    struct sigaction action;
    if (number <= 0 || number >= SIGNALS || sigaction(number, NULL, &action))
        return -1;
    if (action.sa_flags & SA_SIGINFO && action.sa_sigaction == note)
        return 0;
    before[number] = action;
    action.sa_flags = (action.sa_flags | SA_SIGINFO) & ~SA_RESTART;
    action.sa_sigaction = note;
    return sigaction(number, &action, NULL);
}

static uint32_t hashed(uint64_t word)
{
    return (uint32_t)((word >> 2) * 0x9E3779B97F4A7C15u >> 56) % WORDS;
}

static int is_looked_up(const struct known *known, uint64_t word)
{
    for (uint32_t place = hashed(word); known->words[place]; place = (place + 1) % WORDS)
        if (known->words[place] == word)
            return 1;
    return 0;
}

/* Add a futex word; when three quarters are taken no more are added, and their calls are given back. */
void hot_stops_add_word(struct known *known, uint64_t word)
{
    uint32_t place = hashed(word);
    if (!word || known->words_held >= WORDS * 3 / 4)
        return;
    while (known->words[place] && known->words[place] != word)
        place = (place + 1) % WORDS;
    known->words_held += !known->words[place];
    known->words[place] = word;
}

/* A read of /proc/TID/mem takes two thirds of process_vm_readv's time, and can read less. */
static int read_memory(const struct thread *thread, uint64_t address, void *to, size_t size)
{
    if (thread->memory >= 0 && pread((int)thread->memory, to, size, (off_t)address) == (ssize_t)size)
        return 1;
    struct iovec here = {to, size}, there = {(void *)(uintptr_t)address, size};
    return process_vm_readv(thread->tid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void begin_writing(struct thread *thread)
{
    __atomic_store_n(&thread->version, thread->version + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void end_writing(struct thread *thread)
{
    __atomic_store_n(&thread->version, thread->version + 1, __ATOMIC_RELEASE);
}

static int kind_of_fd(const struct known *known, uint64_t fd)
{
    return fd < FDS ? known->fds[fd] : FD_UNKNOWN;
}

/* What has to be read at the entry; -1 where the loop has to see the call. Else the flags. */
static int head_at_entry(const struct shared *shared, const struct thread *thread, const uint64_t *words, uint64_t *head)
{
    uint64_t size = words[3] < 8 ? words[3] : 8;
    int64_t time[2];
    int kind;
    switch (words[0] < CALLS ? shared->entry[words[0]] : BY_PYTHON) {
    case PLAIN:
        return 0;
    case CLONES:
        return words[1] & UNTRACED ? -1 : 0;
    case USES_FD:
        return kind_of_fd(thread->known, words[1]) == FD_UNKNOWN ? -1 : 0;
    case WRITES:
        kind = kind_of_fd(thread->known, words[1]);
        if (kind == FD_WITHOUT_HEAD || (kind == FD_WITH_HEAD && !size))
            return 0;
        return kind == FD_WITH_HEAD && read_memory(thread, words[2], head, size) ? HAS_HEAD : -1;
    case USES_WORD:
        if (!(shared->word_private & words[2] && thread->known->enough_private)
            && !is_looked_up(thread->known, words[1]))
            return -1;
        if (!words[4] || (words[2] & shared->word_command) > 31
            || !(shared->waits >> (words[2] & shared->word_command) & 1))
            return 0;
        if (!read_memory(thread, words[4], time, sizeof time))
            return -1;
        *head = (uint64_t)time[0] * 1000000000 + (uint64_t)time[1];
        return HAS_HEAD;
    default:
        return -1;
    }
}

/* Handle the stop at a call's entry; 0 if the loop has to. */
static int entered(struct shared *shared, struct thread *thread, const struct ptrace_syscall_info *info, int64_t time)
{
    uint64_t words[7], head = 0;
    if (shared->entries_slowly || info->arch != shared->architecture)
        return 0;
    words[0] = info->seccomp.nr;
    for (int place = 0; place < 6; place++)
        words[place + 1] = info->seccomp.args[place];
    int flags = head_at_entry(shared, thread, words, &head);
    if (flags < 0)
        return 0;
    begin_writing(thread);
    thread->start = time;
    for (int place = 0; place < 7; place++)
        thread->words[place] = words[place];
    thread->head = head;
    thread->flags = (uint64_t)flags;
    thread->in_call = 1;
    end_writing(thread);
    ptrace(PTRACE_SYSCALL, thread->tid, NULL, NULL);
    return 1;
}

static int is_restarted(int64_t result)
{
    return result <= -512 && result >= -516 && result != -515; /* ERESTARTSYS and its kin, include/linux/errno.h */
}

/* Handle the stop at a call's exit; 0 if the loop has to. */
static int left(struct shared *shared, struct thread *thread, const struct ptrace_syscall_info *info, int64_t time)
{
    const uint64_t *words = thread->words;
    int how = words[0] < CALLS ? shared->exit[words[0]] : BY_PYTHON;
    int64_t result = info->exit.rval;
    uint64_t head = thread->head, flags = thread->flags;
    if (how == BY_PYTHON || !thread->in_call || is_restarted(result) || (how == CLONES && words[1] & UNTRACED))
        return 0;
    if (how == WAITS_FOR && result > 0 && words[2]) {
        head = 0;
        if (!read_memory(thread, words[2], &head, sizeof(int32_t)))
            return 0;
        flags |= HAS_HEAD;
    }
    if (how == READS && result > 0 && kind_of_fd(thread->known, words[1]) != FD_WITHOUT_HEAD) {
        head = 0;
        if (kind_of_fd(thread->known, words[1]) == FD_UNKNOWN
            || !read_memory(thread, words[2], &head, result < 8 ? (size_t)result : 8))
            return 0;
        flags |= HAS_HEAD;
    }
    ptrace(PTRACE_CONT, thread->tid, NULL, NULL);
    struct record *record = &shared->ring[shared->ended % RECORDS];
    record->start = thread->start;
    record->duration = time - thread->start;
    record->tid = thread->tid;
    record->pid = thread->pid;
    record->number = (int16_t)words[0];
    record->flags = (uint16_t)flags;
    record->result = result;
    for (int place = 0; place < 6; place++)
        record->arguments[place] = words[place + 1];
    record->head = head;
    /* The record first: a call that is not in progress any more must be found among the ended ones. */
    __atomic_store_n(&shared->ended, shared->ended + 1, __ATOMIC_RELEASE);
    begin_writing(thread);
    thread->in_call = 0;
    end_writing(thread);
    return 1;
}

/* The thread whose hot stop this may be; NULL if it is another stop, or the thread is not known here. */
static struct thread *thread_of(struct shared *shared, pid_t tid, int status)
{
    struct thread *thread = &shared->threads[shared->place[tid % TIDS]];
    return (status == SECCOMP_STOP || status == CALL_STOP) && thread->tid == tid ? thread : NULL;
}

static int ask(pid_t tid, struct ptrace_syscall_info *info)
{
    return ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof *info, info) > 0;
}

/* Handle a stop; an exit has the time at which it was seen, an entry that at which the call really begins.
 * One that is not there any more needs nothing: the thread has died, and its end is still to be told; another thread
 * may have its tid by now. */
static int handle(struct shared *shared, struct thread *thread, const struct stop *stop, int64_t *time)
{
    struct ptrace_syscall_info own;
    const struct ptrace_syscall_info *info = stop->info;
    int entry = stop->status == SECCOMP_STOP;
    if (!info) {
        info = &own;
        if (!ask(thread->tid, &own) || own.op != (entry ? PTRACE_SYSCALL_INFO_SECCOMP : PTRACE_SYSCALL_INFO_EXIT))
            return 1;
    }
    *time = entry || !stop->time ? now() : stop->time;
    int done = entry ? entered(shared, thread, info, *time) : left(shared, thread, info, *time);
    shared->handled += (uint64_t)done;
    return done;
}

static int is_full(const struct shared *shared)
{
    return shared->ended - __atomic_load_n(&shared->taken, __ATOMIC_ACQUIRE) >= RECORDS;
}

/* --- turns ------------------------------------------------------------------------------------------------------- */

static void put_off(struct turns *turns, pid_t tid, int status)
{
    turns->queue[(turns->first + turns->queued++) % QUEUE] = (struct stop){now(), NULL, tid, status};
}

static void put_in_front(struct turns *turns, struct stop stop)
{
    turns->queue[--turns->first % QUEUE] = stop;
    turns->queued++;
}

static struct stop next_in_queue(struct turns *turns)
{
    turns->queued--;
    return turns->queue[turns->first++ % QUEUE];
}

/* Put off the hot stops that there are already, so that who has waited longest comes first.
 * Returns: the tid of another stop, with its status; 0 if there is none. */
static pid_t collect(struct shared *shared, int options, int *status)
{
    while (shared->turns.queued < QUEUE - 1) {
        pid_t tid = waitpid(-1, status, options | WNOHANG);
        if (tid <= 0)
            return 0;
        if (!thread_of(shared, tid, *status))
            return tid;
        put_off(&shared->turns, tid, *status);
    }
    return 0;
}

/* Let the thread whose turn it is run. Returns: its tid, if it stopped before it gave the CPU back; else it waits, or
 * computes, and 0.
 *
 * What kind of stop it is tells whether it has stopped, too, so that waitpid is not needed for a hot one.
 *
 * Where somebody else wants the CPU too, giving it away costs a whole slice of his: then there are no turns for a
 * while, ever longer. */
static pid_t run(struct turns *turns, pid_t tid, int options, struct stop *stop, struct ptrace_syscall_info *info)
{
    int64_t began = now(), took;
    sched_yield();
    took = now() - began;
    if (took > LONG_YIELD) {
        turns->lost += took < MOST_LOST ? (uint32_t)took : MOST_LOST;
        if (turns->lost >= MOST_LOST) {
            turns->lost = 0;
            turns->pause = turns->pause ? turns->pause * 2 : FIRST_PAUSE;
            if (turns->pause > LAST_PAUSE)
                turns->pause = LAST_PAUSE;
            turns->not_before = began + took + turns->pause;
        }
    } else if (turns->lost) {
        turns->lost -= turns->lost < A_GAIN ? turns->lost : A_GAIN;
    } else if (turns->pause > FIRST_PAUSE) {
        turns->pause -= A_GAIN;
    }
    if (!ask(tid, info))
        return 0;
    stop->tid = tid;
    stop->info = info;
    stop->status = info->op == PTRACE_SYSCALL_INFO_SECCOMP ? SECCOMP_STOP : CALL_STOP;
    if (info->op == PTRACE_SYSCALL_INFO_SECCOMP || info->op == PTRACE_SYSCALL_INFO_EXIT)
        return tid;
    stop->info = NULL;
    return waitpid(tid, &stop->status, options | WNOHANG) == tid ? tid : 0;
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

static pid_t ended_by(struct shared *shared, pid_t tid, int status)
{
    has_signal = 0;
    shared->stopped_status = (uint32_t)status;
    return tid;
}

/* Wait for stops until there is one that is not handled here.
 *
 * Where tracer and tracees share a CPU, one thread has its turn, until it waits or has had so many stops: hot stops
 * of the others are put off meanwhile. Else each stop would let another thread run while the one before may hold a
 * lock, until all of them wait for locks most of the time.
 *
 * Returns: its tid, with the wait status in shared->stopped_status. 0 where the loop has to have a look around: a
 * signal has come, or the ring is full. A negative errno, as ECHILD, where waitpid failed.
 */
int hot_stops_wait(struct shared *shared, int options)
{
    struct turns *turns = &shared->turns;
    struct ptrace_syscall_info info;
    struct thread *turn = NULL; /* whose it is: it runs */
    uint32_t stops = 0;         /* of that turn */
    for (;;) {
        struct stop stop = {0};
        if (has_signal || is_full(shared))
            return ended_by(shared, 0, 0);
        if (turns->queued && turn) {
            if (!run(turns, turn->tid, options, &stop, &info)) {
                turn = NULL;
                stop.info = NULL;
                stop.tid = collect(shared, options, &stop.status);
                if (!stop.tid)
                    continue;
            }
        } else if (turns->queued) {
            stop = next_in_queue(turns);
        } else {
            stop.tid = waitpid(-1, &stop.status, options);
            if (stop.tid < 0)
                return ended_by(shared, errno == EINTR ? 0 : -errno, 0);
            if (!turn && thread_of(shared, stop.tid, stop.status)) {
                /* The kernel tells of the oldest thread first: who comes later in its list would come never. */
                struct stop other = {0};
                other.tid = collect(shared, options, &other.status);
                if (other.tid) {
                    stop.time = now();
                    put_in_front(turns, stop);
                    stop = other;
                }
            }
        }
        struct thread *thread = thread_of(shared, stop.tid, stop.status);
        if (thread && turn && thread != turn && !turn->in_call && turns->queued < QUEUE - 1) {
            put_off(turns, stop.tid, stop.status); /* the other one is still running */
            continue;
        }
        int64_t time = 0;
        if (!thread || !handle(shared, thread, &stop, &time))
            return ended_by(shared, stop.tid, stop.status);
        stops = thread == turn ? stops + 1 : 1;
        int has_turns = turns->stops && time >= turns->not_before;
        turn = has_turns && stops < turns->stops ? thread : NULL;
        if (has_turns && !turn && (stop.tid = collect(shared, options, &stop.status)))
            return ended_by(shared, stop.tid, stop.status);
    }
}
