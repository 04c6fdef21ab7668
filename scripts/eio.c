/* Reads of files whose path contains $FAULTS_EIO fail as those of a broken disk do: a read gives
 * EIO, a map a page whose access ends the process by SIGBUS.
 *
 *     cc -shared -fPIC -o eio.so eio.c -ldl; LD_PRELOAD=eio.so FAULTS_EIO=labels.npy command
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

static int broken(int fd)
{
    const char *part = getenv("FAULTS_EIO");
    char link[64], path[PATH_MAX];
    ssize_t length;

    if (!part || !*part || fd < 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, part) != NULL;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(fd) do { if (broken(fd)) { errno = EIO; return -1; } } while (0)

ssize_t read(int fd, void *to, size_t n)
{
    FAIL(fd);
    return REAL(read)(fd, to, n);
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    FAIL(fd);
    return REAL(pread)(fd, to, n, at);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
    FAIL(fd);
    return REAL(pread64)(fd, to, n, at);
}

static int substitute(int fd)
{
    return broken(fd) ? memfd_create("broken", 0) : fd;
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t from)
{
    return REAL(mmap)(at, n, protection, flags, substitute(fd), from);
}

void *mmap64(void *at, size_t n, int protection, int flags, int fd, off64_t from)
{
    return REAL(mmap64)(at, n, protection, flags, substitute(fd), from);
}
