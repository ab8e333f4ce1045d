/* What a machine crash would leave of each file: loaded into a broker with LD_PRELOAD, it notes how long every file was
 * when an fsync of it began, once that fsync has succeeded.
 *
 *   FSYNC_MARKS  folder of the marks: one file per inode, its synced length as 8 bytes in the machine's order
 *   FSYNC_SKIP   if set, nothing is synced and nothing is noted: the fault that log_crash.rs must find
 *
 * By inode and not by path, because files are renamed. Truncating a file lowers its mark. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void note(const struct stat *file, int lower) {
    const char *folder = getenv("FSYNC_MARKS");
    char path[4096];
    uint64_t before = 0, now = (uint64_t)file->st_size;
    if (folder == NULL || !S_ISREG(file->st_mode)) return;
    snprintf(path, sizeof path, "%s/%llu", folder, (unsigned long long)file->st_ino);
    pthread_mutex_lock(&lock);
    int mark = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (mark >= 0) {
        if (pread(mark, &before, sizeof before, 0) != sizeof before) before = 0;
        if (lower ? now < before : now > before) {
            if (pwrite(mark, &now, sizeof now, 0) != sizeof now) abort();
        }
        close(mark);
    }
    pthread_mutex_unlock(&lock);
}

static int synced(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat file;
    if (getenv("FSYNC_SKIP") != NULL) return 0;
    /* What is written while the fsync runs may or may not be covered by it. */
    int known = fstat(fd, &file);
    int result = real(fd);
    if (result == 0 && known == 0) note(&file, 0);
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }

int fdatasync(int fd) { return synced("fdatasync", fd); }

static int truncated(const char *name, int fd, off_t length) {
    int (*real)(int, off_t) = (int (*)(int, off_t))dlsym(RTLD_NEXT, name);
    struct stat file;
    int result = real(fd, length);
    if (result == 0 && fstat(fd, &file) == 0) note(&file, 1);
    return result;
}

int ftruncate(int fd, off_t length) { return truncated("ftruncate", fd, length); }

int ftruncate64(int fd, off_t length) { return truncated("ftruncate64", fd, length); }
