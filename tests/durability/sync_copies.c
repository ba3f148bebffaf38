/* Preloaded into a hub: keeps what a loss of power would leave of the files of its event log.
 *
 * At each sync of a file whose name begins with `log.` in the directory SYNC_DATA, the content of that file is copied. Before and
 * after each sync a directory SYNC_COPIES/<number> is made of the copies of all such files as they were when each was synced
 * last, under the names that were there when the directory was synced last. What was written and not synced is left out; of every second
 * directory, some other files have what was written all the same, because the kernel may have been early.
 *
 * A copy is a hard link, so that a file that was not synced again costs nothing. At most SYNC_COPIES_MAX directories are made:
 * beyond that, every other one is left out from then on.
 *
 * While the file SYNC_BLOCK exists, syncs of `log.*` wait; while SYNC_FAIL exists, they fail with EIO; while SYNC_READONLY
 * exists, nothing can be written to `log.*`, as on a file system that the kernel has made read-only. A file whose sync has
 * failed once is never copied again: after that, a later sync that succeeds proves nothing.
 *
 * Copying closes a descriptor of the log, which takes along the locks that SQLite holds against other processes: a hub with
 * SYNC_COPIES has its files for itself.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX 4096
#define NAMES_MAX 16

/* A file, by what does not change when it is renamed. */
struct file { unsigned long long inode; struct statx_timestamp born; int copies, poisoned; };
struct name { char text[64]; int file; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[FILES_MAX];
static int files_count, names_count, number, stride = 1, made;
/* The names when the directory was synced last. */
static struct name names[NAMES_MAX];
static int (*real_fsync)(int), (*real_fdatasync)(int);

static int exists(const char *variable) {
    const char *path = getenv(variable);
    return path && access(path, F_OK) == 0;
}

static int identify(int fd, const char *path) {
    struct statx found;
    if (statx(fd, path, fd >= 0 && !*path ? AT_EMPTY_PATH : 0, STATX_INO | STATX_BTIME, &found)) return -1;
    for (int at = 0; at < files_count; at++)
        if (files[at].inode == found.stx_ino && !memcmp(&files[at].born, &found.stx_btime, sizeof files[at].born)) return at;
    if (files_count == FILES_MAX) abort();
    files[files_count] = (struct file){.inode = found.stx_ino, .born = found.stx_btime};
    return files_count++;
}

static int copy(const char *from, const char *to) {
    char buffer[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ssize_t size = -1;
    if (in >= 0 && out >= 0)
        while ((size = read(in, buffer, sizeof buffer)) > 0)
            if (write(out, buffer, size) != size) { size = -1; break; }
    if (in >= 0) close(in);
    if (out >= 0) close(out);
    return size == 0;
}

static void copied(char *path, int file, int version) {
    snprintf(path, PATH_MAX, "%s/synced/%d.%d", getenv("SYNC_COPIES"), file, version);
}

/* Makes the next directory. `began` is when the sync was called: what was told before that must be in it. */
static void take(const char *what, const struct timespec *began) {
    char dir[PATH_MAX - 128], from[PATH_MAX], to[PATH_MAX];
    if (number++ % stride) return;
    if (made++ >= atoi(getenv("SYNC_COPIES_MAX"))) { stride *= 2; made = made / 2; }
    snprintf(dir, sizeof dir, "%s/%06d", getenv("SYNC_COPIES"), number);
    if (mkdir(dir, 0700)) return;
    snprintf(to, sizeof to, "%s/taken", dir);
    FILE *about = fopen(to, "w");
    fprintf(about, "%lld.%09ld %s\n", (long long)began->tv_sec, began->tv_nsec, what);
    for (int at = 0; at < names_count; at++) {
        struct file *file = &files[names[at].file];
        snprintf(to, sizeof to, "%s/%s", dir, names[at].text);
        snprintf(from, sizeof from, "%s/%s", getenv("SYNC_DATA"), names[at].text);
        int early = number / stride % 2 && rand() % 2 && !file->poisoned && identify(AT_FDCWD, from) == names[at].file;
        if (early) {
            copy(from, to);
        } else if (file->copies) {
            copied(from, names[at].file, file->copies);
            if (link(from, to)) continue;
        } else {
            /* Its name was synced, and nothing of its content. */
            close(open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        }
        fprintf(about, "%s %llu %s\n", names[at].text, file->inode, early ? "written" : "synced");
    }
    fclose(about);
}

static void note_directory(const char *data) {
    DIR *dir = opendir(data);
    struct dirent *entry;
    names_count = 0;
    while (dir && (entry = readdir(dir))) {
        char path[PATH_MAX];
        size_t length = strlen(entry->d_name);
        /* The shared memory does not survive a restart, and the ballast has no content. */
        if (strncmp(entry->d_name, "log.", 4) || !strcmp(entry->d_name, "log.ballast") || names_count == NAMES_MAX) continue;
        if (length > 4 && !strcmp(entry->d_name + length - 4, "-shm")) continue;
        snprintf(path, sizeof path, "%s/%s", data, entry->d_name);
        int file = identify(AT_FDCWD, path);
        if (file < 0) continue;
        snprintf(names[names_count].text, sizeof names[0].text, "%s", entry->d_name);
        names[names_count++].file = file;
    }
    if (dir) closedir(dir);
}

static int sync_it(int fd, int (*real)(int)) {
    const char *data = getenv("SYNC_DATA");
    char link[64], path[PATH_MAX], to[PATH_MAX];
    struct timespec began;
    clock_gettime(CLOCK_MONOTONIC, &began);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = data ? readlink(link, path, sizeof path - 1) : -1;
    size_t prefix = data ? strlen(data) : 0;
    if (length < 0 || strncmp(path, data, prefix) || (path[length] = 0, path[prefix] != 0 && path[prefix] != '/')) return real(fd);
    const char *name = path + prefix + (path[prefix] == '/');
    if (*name && strncmp(name, "log.", 4)) return real(fd);
    while (*name && exists("SYNC_BLOCK")) usleep(2000);
    int failing = *name && exists("SYNC_FAIL");
    if (getenv("SYNC_COPIES")) {
        /* The power may fail just before: nothing may have been answered yet that needs this sync. */
        snprintf(to, sizeof to, "before:%s", *name ? name : ".");
        pthread_mutex_lock(&lock);
        take(to, &began);
        pthread_mutex_unlock(&lock);
    }
    int done = failing ? -1 : real(fd);
    if (!getenv("SYNC_COPIES")) { if (failing) errno = EIO; return done; }
    pthread_mutex_lock(&lock);
    if (*name) {
        int file = identify(fd, "");
        if (failing) {
            files[file].poisoned = strncmp(name, "log.mark", 8) != 0;
        } else if (!files[file].poisoned) {
            copied(to, file, files[file].copies + 1);
            if (copy(link, to)) {
                if (files[file].copies++) { copied(to, file, files[file].copies - 1); unlink(to); }
            } else abort();
        }
    } else {
        note_directory(data);
    }
    if (!failing) take(*name ? name : ".", &began);
    pthread_mutex_unlock(&lock);
    if (failing) errno = EIO;
    return done;
}

static void find(void) {
    if (!real_fsync) real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    if (!real_fdatasync) real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
}

int fsync(int fd) { find(); return sync_it(fd, real_fsync); }
int fdatasync(int fd) { find(); return sync_it(fd, real_fdatasync); }

/* Whether this is a file of the log, and read-only now. */
static int refused(const char *path) {
    const char *data = getenv("SYNC_DATA");
    size_t prefix = data ? strlen(data) : 0;
    if (!data || strncmp(path, data, prefix) || strncmp(path + prefix, "/log.", 5) || !exists("SYNC_READONLY")) return 0;
    errno = EROFS;
    return 1;
}

static int refused_descriptor(int fd) {
    char link[64], path[PATH_MAX];
    if (!getenv("SYNC_READONLY")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return refused(path);
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *from, size_t size) {
    REAL(write);
    return refused_descriptor(fd) ? -1 : real(fd, from, size);
}

ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) {
    REAL(pwrite64);
    return refused_descriptor(fd) ? -1 : real(fd, from, size, at);
}

int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    return refused_descriptor(fd) ? -1 : real(fd, size);
}

int unlink(const char *path) {
    REAL(unlink);
    return refused(path) ? -1 : real(path);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return refused(from) ? -1 : real(from, to);
}

#define OPEN(name) int name(const char *path, int flags, ...) { \
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
    REAL(name); \
    return (flags & (O_WRONLY | O_RDWR | O_CREAT)) && refused(path) ? -1 : real(path, flags, mode); }
OPEN(open)
OPEN(open64)
