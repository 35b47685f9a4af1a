/* Faults at the n-th write: preloaded into a process (LD_PRELOAD), and so into all it starts.

   What counts are operations on files below $FAULTS_ROOT: opening for writing, writing, making, renaming, cutting and
   removing. The count is shared by all processes through the file $FAULTS_STATE. At operation number `at` the fault
   comes: the process is killed (in the middle of a write, half of which is done), or told to end, or gets ENOSPC or
   EACCES, this time and each time after it, as of a full disk or a folder that nobody may write to. A process may
   arm itself: faults_arm(how, at). With $FAULTS_CLOCK clocks jump at each reading, back and forth. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { COUNT, KILL, KILL_GROUP, TERM, NO_SPACE, NO_ACCESS };

struct state {
    _Atomic uint64_t count, at, how, struck;
};

static struct state *state;
static char root[4096];
static size_t root_length;
static double clock_jump;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void start(void)
{
    const char *given = getenv("FAULTS_ROOT"), *file = getenv("FAULTS_STATE"), *jump = getenv("FAULTS_CLOCK");
    if (jump) clock_jump = atof(jump);
    if (!given || !file || strlen(given) >= sizeof root) return;
    int handle = open(file, O_RDWR | O_CLOEXEC);
    if (handle < 0) return;
    void *found = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    close(handle);
    if (found == MAP_FAILED) return;
    strcpy(root, given);
    root_length = strlen(root);
    state = found;
}

void faults_arm(int how, uint64_t at)
{
    state->count = 0;
    state->struck = 0;
    state->how = (uint64_t)how;
    state->at = at;
}

uint64_t faults_count(void)
{
    return state->count;
}

static int below_root(const char *path)
{
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || !path[root_length]);
}

static int is_ours(int folder, const char *path)
{
    char whole[8192], link[64];
    ssize_t length;
    if (!state || !path) return 0;
    if (path[0] == '/') return below_root(path);
    if (folder == AT_FDCWD) {
        if (!getcwd(whole, 4096)) return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        length = readlink(link, whole, 4095);
        if (length < 0) return 0;
        whole[length] = 0;
    }
    strcat(whole, "/");
    strncat(whole, path, 4000);
    return below_root(whole);
}

static int is_our_handle(int handle)
{
    char link[64], path[4096];
    if (!state) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below_root(path);
}

/* What comes at this operation: 0, or the error that it is to fail with. `space` and `access` say which faults it can
   have. A kill is for the caller to do, after half of its work. */
static int fault(int space, int access, int *dies)
{
    int before = errno;
    uint64_t number = ++state->count, at = state->at, how = state->how;
    *dies = 0;
    errno = before;
    if (!at || number < at) return 0;
    if ((how == NO_SPACE && space) || (how == NO_ACCESS && access)) {
        state->struck = 1;
        return how == NO_SPACE ? ENOSPC : EACCES;
    }
    if ((how == KILL || how == KILL_GROUP || how == TERM) && number == at) *dies = 1;
    return 0;
}

static void die(void)
{
    uint64_t how = state->how;
    state->struck = 1;
    if (how == TERM) kill(getpid(), SIGTERM);
    if (how == KILL_GROUP) kill(0, SIGKILL);
    if (how == KILL) kill(getpid(), SIGKILL);
}

#define STRIKE(space, access, ours) \
    if (ours) { \
        int dies, error = fault(space, access, &dies); \
        if (dies) die(); \
        if (error) return errno = error, -1; \
    }

#define OPEN(name, folder, call) \
    { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        REAL(name); \
        int writes = (flags & O_ACCMODE) != O_RDONLY; \
        STRIKE((flags & O_CREAT) != 0, 1, writes && is_ours(folder, path)) \
        return call; \
    }

int open(const char *path, int flags, ...) OPEN(open, AT_FDCWD, real(path, flags, mode))
int open64(const char *path, int flags, ...) OPEN(open64, AT_FDCWD, real(path, flags, mode))
int openat(int folder, const char *path, int flags, ...) OPEN(openat, folder, real(folder, path, flags, mode))
int openat64(int folder, const char *path, int flags, ...) OPEN(openat64, folder, real(folder, path, flags, mode))

ssize_t write(int handle, const void *data, size_t size)
{
    REAL(write);
    if (is_our_handle(handle)) {
        int dies, error = fault(1, 0, &dies);
        if (dies || (error && size > 1 && state->count == state->at)) {
            ssize_t done = real(handle, data, size / 2);
            if (dies) die();
            else return done;
        }
        if (error) return errno = error, -1;
    }
    return real(handle, data, size);
}

ssize_t pwrite(int handle, const void *data, size_t size, off_t place)
{
    REAL(pwrite);
    STRIKE(1, 0, is_our_handle(handle))
    return real(handle, data, size, place);
}

ssize_t pwrite64(int handle, const void *data, size_t size, off64_t place)
{
    REAL(pwrite64);
    STRIKE(1, 0, is_our_handle(handle))
    return real(handle, data, size, place);
}

ssize_t writev(int handle, const struct iovec *parts, int count)
{
    REAL(writev);
    STRIKE(1, 0, is_our_handle(handle))
    return real(handle, parts, count);
}

ssize_t sendfile(int to, int from, off_t *place, size_t size)
{
    REAL(sendfile);
    STRIKE(1, 0, is_our_handle(to))
    return real(to, from, place, size);
}

ssize_t sendfile64(int to, int from, off64_t *place, size_t size)
{
    REAL(sendfile64);
    STRIKE(1, 0, is_our_handle(to))
    return real(to, from, place, size);
}

int fsync(int handle)
{
    REAL(fsync);
    STRIKE(1, 0, is_our_handle(handle))
    return real(handle);
}

int ftruncate(int handle, off_t size)
{
    REAL(ftruncate);
    STRIKE(1, 0, is_our_handle(handle))
    return real(handle, size);
}

int ftruncate64(int handle, off64_t size)
{
    REAL(ftruncate64);
    STRIKE(1, 0, is_our_handle(handle))
    return real(handle, size);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    STRIKE(1, 1, is_ours(AT_FDCWD, path))
    return real(path, mode);
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    STRIKE(1, 1, is_ours(AT_FDCWD, to))
    return real(from, to);
}

int renameat(int source, const char *from, int target, const char *to)
{
    REAL(renameat);
    STRIKE(1, 1, is_ours(target, to))
    return real(source, from, target, to);
}

int unlink(const char *path)
{
    REAL(unlink);
    STRIKE(0, 1, is_ours(AT_FDCWD, path))
    return real(path);
}

int unlinkat(int folder, const char *path, int flags)
{
    REAL(unlinkat);
    STRIKE(0, 1, is_ours(folder, path))
    return real(folder, path, flags);
}

int rmdir(const char *path)
{
    REAL(rmdir);
    STRIKE(0, 1, is_ours(AT_FDCWD, path))
    return real(path);
}

int clock_gettime(clockid_t which, struct timespec *now)
{
    static _Atomic uint64_t seed = 88172645463325252ull;
    REAL(clock_gettime);
    int code = real(which, now);
    if (!clock_jump || code || (which != CLOCK_MONOTONIC && which != CLOCK_REALTIME)) return code;
    uint64_t x = seed;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    seed = x;
    double jump = clock_jump * ((double)(x >> 11) / 9007199254740992.0 - 0.5);
    if (which == CLOCK_REALTIME) jump *= 3600;
    int64_t total = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + (int64_t)(jump * 1e9);
    if (total < 0) total = 0;
    now->tv_sec = total / 1000000000, now->tv_nsec = total % 1000000000;
    return 0;
}
