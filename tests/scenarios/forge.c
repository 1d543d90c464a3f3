/* SPDX-License-Identifier: Apache-2.0 */
/* forge: makes a checkpoint that is sound as an archive goes, and wrong as an image.
 *
 *   forge ARCHIVE CHECKPOINT dump STREAM                 the stream, to standard output
 *   forge ARCHIVE CHECKPOINT replace STREAM < NEW        a new checkpoint of the same name
 *   forge ARCHIVE CHECKPOINT drop STREAM                 one without that stream
 *
 * Prints NAME@N of the new one.  For tests of restore: every digest fits. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "store/archive.h"

static void must(enum err e)
{
	if (e == ERR_OK)
		return;
	(void)fprintf(stderr, "forge: %s\n", err_text());
	exit(1);
}

struct copy {
	struct archive_writer *writer;
	unsigned index;
};

static enum err copy_extent(void *arg, uint64_t offset, const void *p, size_t len)
{
	struct copy *c = arg;

	return archive_put(c->writer, c->index, offset, p, len);
}

static void read_input(struct buf *b)
{
	uint8_t bytes[65536];
	size_t n;

	while ((n = fread(bytes, 1, sizeof(bytes), stdin)) > 0)
		buf_put(b, bytes, n);
	must(buf_check(b));
}

static void dump(struct archive_reader *r, const char *stream)
{
	struct buf b = {0};
	unsigned i;

	must(archive_read_find(r, stream, &i));
	uint64_t length = archive_read_stream(r, i)->length;
	buf_put_zero(&b, length);
	must(buf_check(&b));
	must(archive_read(r, i, 0, b.data, b.len));
	if (fwrite(b.data, 1, b.len, stdout) != b.len || fflush(stdout) != 0)
		exit(1);
	buf_fini(&b);
}

static void forge(struct archive *a, struct archive_reader *r, const char *name, const char *stream,
		  const struct buf *replacement)
{
	struct copy c;
	struct checkpoint_info made;

	must(archive_begin(a, name, NULL, &c.writer));
	for (unsigned i = 0; i < archive_read_streams(r); i++) {
		const struct archive_stream_info *s = archive_read_stream(r, i);
		bool other = strcmp(s->name, stream) != 0;
		if (!other && !replacement)
			continue;
		must(archive_stream(c.writer, s->name, other ? s->length : replacement->len, &c.index));
		if (other)
			must(archive_read_all(r, i, NULL, copy_extent, &c));
		else if (replacement->len > 0)
			must(archive_put(c.writer, c.index, 0, replacement->data, replacement->len));
	}
	must(archive_commit(c.writer, "forged", &made));
	printf("%s@%" PRIu64 "\n", made.name, made.number);
}

/* The key file that LIFEBOAT_KEY_FILE names. */
static struct archive_key *read_key(void)
{
	const char *path = getenv("LIFEBOAT_KEY_FILE");
	char text[ARCHIVE_KEY_TEXT_MAX];
	struct archive_key *key = NULL;
	FILE *f = path ? fopen(path, "r") : NULL;
	size_t len;

	if (!f)
		return NULL;
	len = fread(text, 1, sizeof(text), f);
	(void)fclose(f);
	must(archive_key_from_text(text, len, path, &key));
	return key;
}

int main(int argc, char **argv)
{
	struct archive_options opt = {.writable = true};
	struct archive_key *key = read_key();
	struct archive *a;
	struct archive_reader *r;
	struct checkpoint_info info;
	struct buf input = {0};

	if (argc != 5)
		return 2;
	opt.key = key;
	must(archive_open(argv[1], &opt, &a));
	must(archive_find(a, argv[2], &info));
	must(archive_read_open(a, &info, &r));
	if (strcmp(argv[3], "dump") == 0) {
		dump(r, argv[4]);
	} else {
		bool drop = strcmp(argv[3], "drop") == 0;
		if (!drop)
			read_input(&input);
		forge(a, r, info.name, argv[4], drop ? NULL : &input);
	}
	buf_fini(&input);
	archive_read_close(r);
	archive_close(a);
	archive_key_close(key);
	return 0;
}
