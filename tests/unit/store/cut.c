/* SPDX-License-Identifier: Apache-2.0 */
/* cut: see cut.h.
 *
 *   shadow/pin/INODE    a link to each file seen, so that no inode number returns
 *   shadow/data/INODE   the secured bytes of a file
 *   shadow/names/DIR    the secured names of a directory: lines "INODE NAME" */
#include "tests/unit/store/cut.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/store/bed.h"

static char dir_path[512], shadow_path[512];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const char *const dirs[] = {".",     "manifests", "packs",     "numbers", "index",
				   "pins", "leases",    "condemned", "forwards", "keys"};
#define DIRS (sizeof(dirs) / sizeof(dirs[0]))

#define MUST(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			perror(#x);                                                                \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static void pin_all(void)
{
	char **files, from[1024], to[1024];
	size_t n = bed_files(dir_path, &files);

	for (size_t i = 0; i < n; i++) {
		struct stat st;

		snprintf(from, sizeof(from), "%s/%s", dir_path, files[i]);
		if (stat(from, &st) == 0) {
			snprintf(to, sizeof(to), "%s/pin/%llu", shadow_path,
				 (unsigned long long)st.st_ino);
			(void)!link(from, to);
		}
		free(files[i]);
	}
	free(files);
}

static void secure_file(const char *name)
{
	char from[1024], to[1024];
	struct stat st;

	snprintf(from, sizeof(from), "%s/%s", dir_path, name);
	if (stat(from, &st) != 0)
		return;
	snprintf(to, sizeof(to), "%s/data/%llu", shadow_path, (unsigned long long)st.st_ino);
	bed_copy(from, to);
}

static void names_path(const char *name, char *out, size_t size)
{
	snprintf(out, size, "%s/names/%s", shadow_path, strcmp(name, ".") == 0 ? "root" : name);
}

static void secure_names(const char *name)
{
	char path[1024], list[1024], new_list[1040];
	struct dirent *e;
	FILE *f;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", dir_path, name);
	if (!(d = opendir(path)))
		return;
	names_path(name, list, sizeof(list));
	snprintf(new_list, sizeof(new_list), "%s.new", list);
	MUST(f = fopen(new_list, "w"));
	while ((e = readdir(d)) != NULL) {
		struct stat st;

		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			fprintf(f, "%llu %s\n", (unsigned long long)st.st_ino, e->d_name);
	}
	closedir(d);
	fclose(f);
	MUST(rename(new_list, list) == 0);
}

void cut_begin(const char *dir, const char *shadow)
{
	const char *const parts[] = {"", "/pin", "/data", "/names"};
	char path[1024], **files;
	size_t n;

	snprintf(dir_path, sizeof(dir_path), "%s", dir);
	snprintf(shadow_path, sizeof(shadow_path), "%s", shadow);
	for (size_t i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s%s", shadow, parts[i]);
		MUST(mkdir(path, 0700) == 0);
	}
	pin_all();
	n = bed_files(dir, &files);
	for (size_t i = 0; i < n; i++) {
		secure_file(files[i]);
		free(files[i]);
	}
	free(files);
	for (size_t i = 0; i < DIRS; i++)
		secure_names(dirs[i]);
}

void cut_note(enum fs_op op, const char *what)
{
	pthread_mutex_lock(&lock);
	pin_all();
	if (op == FS_SYNC)
		secure_file(what);
	if (op == FS_SYNC_DIR)
		secure_names(what);
	pthread_mutex_unlock(&lock);
}

/* ---- after the cut ---- */

static void lose_blocks(const char *path, uint64_t *seed)
{
	uint64_t size = bed_file_size(path);
	static const uint8_t zeros[4096];
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	MUST(fd >= 0);
	for (uint64_t at = 0; at < size; at += 4096) {
		size_t part = size - at < 4096 ? (size_t)(size - at) : 4096;

		if (bed_random(seed) % 3 == 0)
			MUST(pwrite(fd, zeros, part, (off_t)at) == (ssize_t)part);
	}
	if (bed_random(seed) % 3 == 0)
		MUST(ftruncate(fd, (off_t)(bed_random(seed) % (size + 1))) == 0);
	close(fd);
}

/* The file that had this inode: its secured bytes, or a mixture. */
static void restore_file(unsigned long long inode, const char *to, uint64_t *seed)
{
	char data[1024], pin[1024];
	bool secured;
	FILE *f;

	snprintf(data, sizeof(data), "%s/data/%llu", shadow_path, inode);
	snprintf(pin, sizeof(pin), "%s/pin/%llu", shadow_path, inode);
	secured = access(data, F_OK) == 0;
	if (*seed && bed_random(seed) % 2 && access(pin, F_OK) == 0) {
		bed_copy(pin, to); /* all of it reached the disk */
		return;
	}
	if (secured) {
		bed_copy(data, to);
	} else if (*seed && bed_random(seed) % 2 && access(pin, F_OK) == 0) {
		bed_copy(pin, to);
		lose_blocks(to, seed);
	} else {
		MUST(f = fopen(to, "w"));
		fclose(f);
	}
}

static void restore_old_names(const char *name, const char *out, uint64_t *seed)
{
	char list[1024], to[2048], file[512];
	unsigned long long inode;
	FILE *f;

	names_path(name, list, sizeof(list));
	if (!(f = fopen(list, "r")))
		return;
	while (fscanf(f, "%llu %511s", &inode, file) == 2) {
		char now[2048];

		snprintf(to, sizeof(to), "%s/%s/%s", out, name, file);
		snprintf(now, sizeof(now), "%s/%s/%s", dir_path, name, file);
		/* its removal or replacement may have reached the disk */
		if (*seed && access(now, F_OK) != 0 && bed_random(seed) % 2)
			continue;
		restore_file(inode, to, seed);
	}
	fclose(f);
}

static void restore_new_names(const char *name, const char *out, uint64_t *seed)
{
	char path[1024], to[2048];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", dir_path, name);
	if (!(d = opendir(path)))
		return;
	while ((e = readdir(d)) != NULL) {
		struct stat st;

		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
		    !S_ISREG(st.st_mode) || bed_random(seed) % 2)
			continue;
		snprintf(to, sizeof(to), "%s/%s/%s", out, name, e->d_name);
		restore_file((unsigned long long)st.st_ino, to, seed);
	}
	closedir(d);
}

void cut_restore(const char *dir, const char *shadow, const char *out, uint64_t seed)
{
	char path[1024];

	snprintf(dir_path, sizeof(dir_path), "%s", dir);
	snprintf(shadow_path, sizeof(shadow_path), "%s", shadow);
	MUST(mkdir(out, 0700) == 0);
	for (size_t i = 0; i < DIRS; i++) {
		snprintf(path, sizeof(path), "%s/%s", out, dirs[i]);
		if (i)
			MUST(mkdir(path, 0700) == 0);
		restore_old_names(dirs[i], out, &seed);
		if (seed)
			restore_new_names(dirs[i], out, &seed);
	}
}
