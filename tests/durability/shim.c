/* Stands between a node and its disk: traces, kills, fails, stalls. Loaded with LD_PRELOAD by the tests alone.

   RAFT_SHIM_FOLDER holds control-<node id> (the struct below, shared with the test) and takes trace-<node id>. Only
   calls on paths that contain /node-<node id>/data are counted and meddled with. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SYNC = 1, WRITE = 2, NAMES = 3 };
enum { FAIL = 1, SHORT = 2, TORN = 3 };

struct control {
    int64_t calls;       /* storage calls since the process started */
    int64_t kill_at;     /* SIGKILL at the entry of this call, 0: never */
    int64_t kill_until;  /* after a kill, kill_at rises by one up to this, then turns 0 */
    int64_t kills;
    int64_t fault_class; /* which calls are counted for fault_at; 0: all */
    int64_t fault_at;    /* this call of the class fails, 0: none */
    int64_t fault_kind;
    int64_t fault_errno;
    int64_t class_calls; /* calls of fault_class since the process started */
    int64_t fired_ns;    /* when the fault happened, 0: not yet */
    int64_t syncs_after; /* syncs of the same file that were begun after the fault */
    int64_t stall;       /* while not 0, fdatasync does not return */
    int64_t stalled;     /* fdatasyncs that wait now */
    int64_t no_space;    /* while not 0, no spare segment can be written */
    int64_t by_class[4]; /* kills by class of the call */
};

struct record {
    int64_t before_ns, after_ns, offset, inode;
    int32_t kind, fd, length, port;
};

static struct control *control;
static int trace_fd = -1;
static char data_part[64];
static int fired_fd = -1;
static char tracked[4096], accepted[4096], spare[4096];

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void trace(int kind, int fd, int64_t before, int64_t offset, int64_t length, const void *payload, size_t bytes) {
    struct record r = {before, now_ns(), offset, 0, kind, fd, (int32_t)length, 0};
    if (trace_fd < 0) return;
    if (kind == 'O') {
        struct stat status;
        fstat(fd, &status);
        r.inode = (int64_t)status.st_ino;
    }
    if (kind == 'A') {
        struct sockaddr_in address;
        socklen_t size = sizeof address;
        if (!getsockname(fd, (struct sockaddr *)&address, &size)) r.port = ntohs(address.sin_port);
    }
    struct iovec parts[2] = {{&r, sizeof r}, {(void *)payload, bytes}};
    if (writev(trace_fd, parts, bytes ? 2 : 1) < 0) abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("RAFT_SHIM_FOLDER"), *node = getenv("RAFTACTORS_NODE_ID");
    char path[4096];
    if (!folder || !node) return;
    snprintf(data_part, sizeof data_part, "/node-%s/data", node);
    snprintf(path, sizeof path, "%s/control-%s", folder, node);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    struct control *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shared == MAP_FAILED) return;
    shared->calls = shared->class_calls = shared->stalled = 0;
    if (getenv("RAFT_SHIM_TRACE")) {
        snprintf(path, sizeof path, "%s/trace-%s", folder, node);
        trace_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    control = shared;
}

/* Count one storage call. Returns 0 to go on, or the kind of the fault that is to happen instead. */
static int enter(int class, int fd) {
    int64_t number = __atomic_add_fetch(&control->calls, 1, __ATOMIC_SEQ_CST);
    if (control->kill_at && number >= control->kill_at) {
        control->kills++;
        control->by_class[class]++;
        control->kill_at = control->kill_at < control->kill_until ? control->kill_at + 1 : 0;
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (class == SYNC && fd == fired_fd) __atomic_add_fetch(&control->syncs_after, 1, __ATOMIC_SEQ_CST);
    if (!control->fault_at || (control->fault_class && control->fault_class != class)) return 0;
    if (__atomic_add_fetch(&control->class_calls, 1, __ATOMIC_SEQ_CST) != control->fault_at) return 0;
    if (control->fired_ns) return 0;
    control->fired_ns = now_ns();
    if (class == SYNC) fired_fd = fd;
    errno = (int)control->fault_errno;
    return (int)control->fault_kind;
}

static int ours(const char *path) { return control && data_part[0] && strstr(path, data_part) != NULL; }
static int is_tracked(int fd) { return control && fd >= 0 && fd < 4096 && tracked[fd]; }

static void note_open(int fd, const char *path) {
    if (fd < 0 || fd >= 4096) return;
    tracked[fd] = (char)ours(path);
    accepted[fd] = 0;
    spare[fd] = strstr(path, ".spare.tmp") != NULL;
    if (tracked[fd]) trace('O', fd, now_ns(), 0, (int64_t)strlen(path), path, strlen(path));
}

#define OPEN(symbol) \
    int symbol(const char *path, int flags, ...) { \
        REAL(int, #symbol, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        if (ours(path) && (flags & O_CREAT) && enter(NAMES, -1)) return -1; \
        int fd = real(path, flags, mode); \
        if (control) note_open(fd, path); \
        return fd; \
    }
OPEN(open)
OPEN(open64)

#define PWRITE(symbol, offset_type) \
    ssize_t symbol(int fd, const void *content, size_t length, offset_type offset) { \
        REAL(ssize_t, #symbol, int, const void *, size_t, offset_type); \
        if (!is_tracked(fd)) return real(fd, content, length, offset); \
        int fault = enter(WRITE, fd); \
        if (fault == FAIL) return -1; \
        if (spare[fd] && control->no_space) { \
            errno = ENOSPC; \
            return -1; \
        } \
        if (fault == TORN) { \
            real(fd, content, length / 2, offset); \
            errno = (int)control->fault_errno; \
            return -1; \
        } \
        if (fault == SHORT && length > 1) length /= 2; \
        int64_t before = now_ns(); \
        ssize_t written = real(fd, content, length, offset); \
        if (written > 0) trace('W', fd, before, offset, written, NULL, 0); \
        return written; \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

static void wait_while_stalled(void) {
    struct timespec pause_time = {0, 1000000};
    if (!control->stall) return;
    __atomic_add_fetch(&control->stalled, 1, __ATOMIC_SEQ_CST);
    while (control->stall) nanosleep(&pause_time, NULL);
    __atomic_sub_fetch(&control->stalled, 1, __ATOMIC_SEQ_CST);
}

#define SYNCING(symbol) \
    int symbol(int fd) { \
        REAL(int, #symbol, int); \
        if (!is_tracked(fd)) return real(fd); \
        if (enter(SYNC, fd) == FAIL) return -1; \
        wait_while_stalled(); \
        int64_t before = now_ns(); \
        int result = real(fd); \
        if (!result) trace('S', fd, before, 0, 0, NULL, 0); \
        return result; \
    }
SYNCING(fsync)
SYNCING(fdatasync)

int rename(const char *source, const char *target) {
    REAL(int, "rename", const char *, const char *);
    return ours(target) && enter(NAMES, -1) ? -1 : real(source, target);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    return ours(path) && enter(NAMES, -1) ? -1 : real(path);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    return ours(path) && enter(NAMES, -1) ? -1 : real(path, mode);
}

int close(int fd) {
    REAL(int, "close", int);
    if (fd >= 0 && fd < 4096) tracked[fd] = accepted[fd] = spare[fd] = 0;
    return real(fd);
}

#define ACCEPTED(fd) \
    if (control && fd >= 0 && fd < 4096) { \
        accepted[fd] = 1; \
        trace('A', fd, now_ns(), 0, 0, NULL, 0); \
    }

int accept(int fd, struct sockaddr *address, socklen_t *size) {
    REAL(int, "accept", int, struct sockaddr *, socklen_t *);
    int made = real(fd, address, size);
    ACCEPTED(made)
    return made;
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    REAL(int, "accept4", int, struct sockaddr *, socklen_t *, int);
    int made = real(fd, address, size, flags);
    ACCEPTED(made)
    return made;
}

ssize_t send(int fd, const void *content, size_t length, int flags) {
    REAL(ssize_t, "send", int, const void *, size_t, int);
    int64_t before = now_ns();
    ssize_t sent = real(fd, content, length, flags);
    if (sent > 0 && fd >= 0 && fd < 4096 && accepted[fd])
        trace('D', fd, before, 0, sent, content, (size_t)sent);
    return sent;
}
