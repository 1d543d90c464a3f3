/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat image build: a disk with a Debian on it, for --boot-from-disk.  The work is that of
 * cmd/image/lifeboat-image-build, which this process becomes; here its words are checked. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/locate.h"
#include "cmd/lifeboat/verbs.h"

#define MIN_BYTES (1ull << 30)
#define KEY 0x3000

enum { KEY_SUITE = KEY, KEY_SIZE, KEY_KERNEL, KEY_HOSTNAME, KEY_INCLUDE, KEY_MIRROR, KEY_PASSWORD };

struct build {
	const char *image, *suite, *kernel, *hostname, *include, *mirror, *password;
	uint64_t bytes;
	bool quiet;
};

/* A word of these characters and others of `more'; not an option of what gets it. */
static bool word_ok(const char *value, const char *more)
{
	if (!isalnum((unsigned char)*value))
		return false;
	for (; *value; value++)
		if (!isalnum((unsigned char)*value) && !strchr(more, *value))
			return false;
	return true;
}

static enum err take_word(const char **out, const char *value, const char *more, const char *what)
{
	*out = value;
	return word_ok(value, more) ? ERR_OK : err_note(ERR_USAGE, 0, "\"%s\" is no %s", value, what);
}

static enum err take_size(struct build *b, const char *value)
{
	enum err e = units_size(value, &b->bytes);

	if (e == ERR_OK && (b->bytes < MIN_BYTES || b->bytes % 4096))
		return err_note(ERR_USAGE, 0, "%s: a Debian needs 1G at least, in multiples of 4K", value);
	return e;
}

static enum err take_kernel(struct build *b, const char *value)
{
	b->kernel = value;
	if (strcmp(value, "cloud") == 0 || strcmp(value, "standard") == 0)
		return ERR_OK;
	return err_note(ERR_USAGE, 0, "\"%s\" is neither cloud nor standard", value);
}

static enum err option(void *args, int key, char *value)
{
	struct build *b = args;

	switch (key) {
	case CLI_ARGUMENT: b->image = value; return ERR_OK;
	case KEY_SUITE: return take_word(&b->suite, value, "-.", "suite of Debian");
	case KEY_SIZE: return take_size(b, value);
	case KEY_KERNEL: return take_kernel(b, value);
	case KEY_HOSTNAME: return take_word(&b->hostname, value, "-", "host name");
	case KEY_INCLUDE: return take_word(&b->include, value, "-.,+:", "list of packages, as \"a,b\"");
	case KEY_MIRROR: return take_word(&b->mirror, value, "-.:/_~%+@", "address of a mirror");
	case KEY_PASSWORD: b->password = value; return ERR_OK;
	case CLI_KEY_QUIET: b->quiet = true; return ERR_OK;
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {
	{.name = "suite", .key = KEY_SUITE, .arg = "NAME", .doc = "Debian's release (default: bookworm)"},
	{.name = "size", .key = KEY_SIZE, .arg = "SIZE",
	 .doc = "Size of the disk (default: 4G; a sparse file)"},
	{.name = "kernel", .key = KEY_KERNEL, .arg = "WHICH", .doc = "cloud (default) or standard"},
	{.name = "hostname", .key = KEY_HOSTNAME, .arg = "NAME", .doc = "The guest's name (default: debian)"},
	{.name = "include", .key = KEY_INCLUDE, .arg = "PACKAGES",
	 .doc = "More packages, as \"fio,sqlite3\""},
	{.name = "mirror", .key = KEY_MIRROR, .arg = "URL",
	 .doc = "The only source of packages (default: the mirrors that apt on this host uses, with "
		"updates and security)"},
	{.name = "password-file", .key = KEY_PASSWORD, .arg = "FILE",
	 .doc = "Its first line becomes root's password (default: root needs none, on the console)"},
	{.name = "quiet", .key = CLI_KEY_QUIET, .doc = "Only errors on standard error"},
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "image build",
	.args_doc = "FILE",
	.doc = "Make a raw disk image with a Debian on it, by mmdebstrap: an ext4, systemd, a kernel, a "
	       "login on the serial line. `lifeboat run --disk FILE --boot-from-disk' starts it. It "
	       "takes root, or a user with subordinate ids."
	       "\vExample:\n"
	       "  lifeboat image build web.raw --size 8G --include openssh-server\n"
	       "  lifeboat run --disk web.raw --boot-from-disk --memory 1G --name web",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

/* Its progress goes to standard error, its standard output stays ours. */
static enum err become(const struct build *b)
{
	char path[PATH_MAX], bytes[24];
	enum err e = locate_program("lifeboat-image-build", "image", NULL, path);

	if (e != ERR_OK)
		return e;
	(void)snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)b->bytes);
	(void)execl(path, path, b->image, b->suite, bytes, b->kernel, b->hostname, b->include, b->mirror,
		    b->password, b->quiet ? "quiet" : "", (char *)NULL);
	return err_sys(errno, "start %s", path);
}

enum err verb_image_build(int argc, char **argv)
{
	struct build b = {.suite = "bookworm", .kernel = "cloud", .hostname = "debian", .include = "",
			  .mirror = "", .password = "", .bytes = 4ull << 30};
	enum err e = cli_parse(&verb, argc, argv, &b);
	bool exists = false;

	if (e == ERR_OK && *b.password)
		e = fs_exists(AT_FDCWD, b.password, &exists);
	if (e == ERR_OK && *b.password && !exists)
		e = err_note(ERR_NOTFOUND, 0, "password file %s: there is no such file", b.password);
	if (e == ERR_OK)
		e = fs_exists(AT_FDCWD, b.image, &exists);
	if (e == ERR_OK && exists)
		e = err_note(ERR_BUSY, 0, "image %s: it exists already: nothing is overwritten", b.image);
	return e == ERR_OK ? become(&b) : e;
}
