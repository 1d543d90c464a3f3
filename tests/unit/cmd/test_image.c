/* SPDX-License-Identifier: Apache-2.0 */
/* image: capture and restore between worker processes, by a sink and a source that
 * keep the image in memory; what is kept is compared byte by byte, and whatever
 * goes wrong, the guest goes on. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "capture/capture.h"
#include "restore/restore.h"
#include "tests/unit/cm.h"
#include "tests/unit/cmd/fake_worker.h"

#define STREAMS 8u

struct stream {
	char name[16];
	uint64_t length;
	uint8_t *data;
};

/* Both a sink and a source. */
struct image {
	struct sink sink;
	struct source source;
	struct stream streams[STREAMS];
	unsigned count, puts, aborts, commits;
	unsigned fail_at;	   /* this put fails; 0: none */
	struct progress *cancel_at_end; /* set its cancel at the put that fails */
	int stall_fd;		   /* > 0: at the first ram put, write a byte and sleep */
	uint64_t ram_end;
};

static struct image *of_sink(struct sink *s)
{
	return (struct image *)((char *)s - offsetof(struct image, sink));
}

static struct image *of_source(struct source *s)
{
	return (struct image *)((char *)s - offsetof(struct image, source));
}

static enum err sink_stream(struct sink *s, const char *name, uint64_t length, unsigned *index)
{
	struct image *im = of_sink(s);
	struct stream *t = &im->streams[im->count];

	assert_true(im->count < STREAMS);
	(void)snprintf(t->name, sizeof(t->name), "%s", name);
	t->length = length;
	t->data = calloc(1, length + 1);
	*index = im->count++;
	return ERR_OK;
}

static enum err sink_put(struct sink *s, unsigned index, uint64_t offset, const void *p, size_t len)
{
	struct image *im = of_sink(s);
	struct stream *t = &im->streams[index];

	assert_true(index < im->count && offset <= t->length && len <= t->length - offset);
	if (++im->puts == im->fail_at && im->cancel_at_end)
		atomic_store(&im->cancel_at_end->cancel, true);
	if (im->puts == im->fail_at)
		return im->cancel_at_end ? progress_check(im->cancel_at_end)
					 : err_note(ERR_NOSPACE, 0, "the sink is full");
	if (strcmp(t->name, "ram") == 0) {
		assert_true(offset >= im->ram_end); /* ascending */
		im->ram_end = offset + len;
		if (im->stall_fd > 0 && write(im->stall_fd, "s", 1) == 1)
			pause();
	}
	memcpy(t->data + offset, p, len);
	return ERR_OK;
}

static enum err sink_commit(struct sink *s, const char *label, struct checkpoint_info *out)
{
	struct image *im = of_sink(s);

	im->commits++;
	*out = (struct checkpoint_info){.number = 1, .nonzero_bytes = 123, .stored_bytes = 45};
	(void)snprintf(out->label, sizeof(out->label), "%s", label);
	return ERR_OK;
}

static void sink_abort(struct sink *s)
{
	of_sink(s)->aborts++;
}

static const struct stream *find(const struct image *im, const char *name)
{
	for (unsigned i = 0; i < im->count; i++)
		if (strcmp(im->streams[i].name, name) == 0)
			return &im->streams[i];
	return NULL;
}

static enum err source_length(struct source *s, const char *stream, uint64_t *length)
{
	const struct stream *t = find(of_source(s), stream);

	if (!t)
		return err_note(ERR_NOTFOUND, 0, "no stream %s", stream);
	*length = t->length;
	return ERR_OK;
}

static enum err source_blob(struct source *s, const char *stream, size_t max, struct buf *out)
{
	const struct stream *t = find(of_source(s), stream);

	if (!t)
		return err_note(ERR_NOTFOUND, 0, "no stream %s", stream);
	assert_true(t->length <= max);
	buf_put(out, t->data, t->length);
	return buf_check(out);
}

static enum err source_extents(struct source *s, const char *stream, struct progress *progress,
			       source_extent_fn *fn, void *arg)
{
	const struct stream *t = find(of_source(s), stream);
	const size_t step = 65536;
	enum err e = ERR_OK;

	(void)progress;
	if (!t)
		return err_note(ERR_NOTFOUND, 0, "no stream %s", stream);
	for (uint64_t at = 0; at < t->length && e == ERR_OK; at += step) {
		size_t len = t->length - at < step ? t->length - at : step;
		if (!bytes_zero(t->data + at, len))
			e = fn(arg, at, t->data + at, len);
	}
	return e;
}

static void image_init(struct image *im)
{
	static const struct sink_ops sink_ops = {
		.stream = sink_stream, .put = sink_put, .commit = sink_commit, .abort = sink_abort};
	static const struct source_ops source_ops = {
		.length = source_length, .blob = source_blob, .extents = source_extents};

	*im = (struct image){.sink = {&sink_ops}, .source = {&source_ops}};
}

static void image_fini(struct image *im)
{
	for (unsigned i = 0; i < im->count; i++)
		free(im->streams[i].data);
}

/* A running machine with scattered contents. */
static void start(struct fake_worker *w)
{
	uint64_t seed = 42;

	fake_worker_start(w, "fake");
	for (uint64_t at = 4096; at + 4096 <= FAKE_MEMORY_BYTES; at += 4096) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		if (seed >> 61 == 0)
			assert_ok(remote_write(w->remote, at, &seed, sizeof(seed)));
	}
	assert_ok(remote_boot(w->remote));
	assert_ok(remote_resume(w->remote));
}

static void assert_counts(const struct remote *r)
{
	uint64_t before = fake_worker_count(r), until = clock_mono_ns() + 2 * NS_PER_SEC;

	while (fake_worker_count(r) == before) {
		assert_true(clock_mono_ns() < until);
		usleep(1000);
	}
}

static void assert_same_memory(const struct remote *r, const struct stream *ram)
{
	uint8_t *bytes = malloc(FAKE_MEMORY_BYTES);

	assert_int_equal(ram->length, FAKE_MEMORY_BYTES);
	assert_ok(remote_read(r, 0, bytes, FAKE_MEMORY_BYTES));
	assert_memory_equal(bytes, ram->data, FAKE_MEMORY_BYTES);
	free(bytes);
}

static void test_image__captured_machine_goes_on_and_another_continues(void **state)
{
	struct fake_worker from, to;
	struct image im;
	struct checkpoint_info info;
	struct capture_report c;
	struct restore_report r;
	struct progress progress = {0};
	struct vm_config config;
	int kernel, initrd;

	(void)state;
	image_init(&im);
	start(&from);
	assert_counts(from.remote);
	assert_ok(capture_run(from.remote, &im.sink, "noon", &progress, &info, &c));
	assert_counts(from.remote);
	assert_int_equal(im.commits, 1);
	assert_int_equal(im.aborts, 0);
	assert_string_equal(info.label, "noon");
	assert_true(c.was_running && c.pause_ns >= c.park_ns + c.state_ns);
	assert_true(c.pause_ns >= c.memory_ns && c.total_ns >= c.pause_ns);
	assert_int_equal(c.ram_bytes, FAKE_MEMORY_BYTES);
	assert_int_equal(c.stored_bytes, 45);
	uint64_t whole = 0; /* every stream counts, or the display would pass its end */
	for (unsigned i = 0; i < im.count; i++)
		whole += im.streams[i].length;
	assert_true(im.count > 3 && whole > FAKE_MEMORY_BYTES);
	assert_int_equal(atomic_load(&progress.total_bytes), whole);

	assert_ok(restore_config(&im.source, &config));
	assert_string_equal(config.name, "fake");
	config_fini(&config);
	assert_ok(restore_boot_files(&im.source, &kernel, &initrd));
	assert_true(kernel >= 0);
	assert_int_equal(initrd, -1);
	assert_int_equal(write(kernel, "x", 1), -1); /* sealed */
	assert_int_equal(lseek(kernel, 0, SEEK_END), find(&im, "kernel")->length);
	close(kernel);

	fake_worker_start(&to, "fake");
	assert_ok(restore_run(&im.source, to.remote, &progress, &r));
	assert_same_memory(to.remote, find(&im, "ram"));
	uint64_t count = fake_worker_count(to.remote);
	assert_int_equal(count, le64_get(find(&im, "ram")->data));
	assert_ok(remote_resume(to.remote));
	assert_counts(to.remote);
	assert_true(fake_worker_count(to.remote) > count);
	fake_worker_stop(&to);
	fake_worker_stop(&from);
	image_fini(&im);
}

static void test_image__paused_machine_stays_paused(void **state)
{
	struct fake_worker w;
	struct image im;
	struct checkpoint_info info;
	struct capture_report c;
	struct remote_status s;
	bool was_running;

	(void)state;
	image_init(&im);
	start(&w);
	assert_ok(remote_pause(w.remote, &was_running));
	assert_ok(capture_run(w.remote, &im.sink, "", NULL, &info, &c));
	assert_false(c.was_running);
	assert_int_equal(c.pause_ns, 0);
	assert_ok(remote_status(w.remote, &s));
	assert_string_equal(s.state, "paused");
	assert_same_memory(w.remote, find(&im, "ram"));
	fake_worker_stop(&w);
	image_fini(&im);
}

/* Every put fails in its turn, by itself and by cancellation. */
static void test_image__failed_sink_never_stops_the_guest(void **state)
{
	struct fake_worker w;
	bool done = false;

	(void)state;
	start(&w);
	for (unsigned n = 1; !done; n++) {
		struct image im;
		struct checkpoint_info info;
		struct capture_report c;
		struct progress progress = {0};
		image_init(&im);
		im.fail_at = n;
		im.cancel_at_end = n % 2 ? NULL : &progress;
		enum err e = capture_run(w.remote, &im.sink, "", &progress, &info, &c);
		done = e == ERR_OK;
		if (!done) {
			assert_int_equal(e, n % 2 ? ERR_NOSPACE : ERR_CANCELLED);
			assert_string_equal(err_text(), n % 2 ? "the sink is full" : "interrupted");
		}
		assert_int_equal(im.aborts, !done);
		assert_int_equal(im.commits, done);
		assert_counts(w.remote);
		image_fini(&im);
		assert_true(n < 200);
	}
	fake_worker_stop(&w);
}

static void test_image__killed_keeper_never_stops_the_guest(void **state)
{
	struct fake_worker w;
	int stalled[2];
	char c;

	(void)state;
	start(&w);
	assert_int_equal(pipe(stalled), 0);
	pid_t keeper = fork();
	if (keeper == 0) {
		struct image im;
		struct remote *r;
		struct checkpoint_info info;
		struct capture_report report;
		image_init(&im);
		im.stall_fd = stalled[1];
		if (remote_connect(w.path, NULL, &r) == ERR_OK)
			(void)!capture_run(r, &im.sink, "", NULL, &info, &report);
		_exit(1);
	}
	close(stalled[1]);
	assert_int_equal(read(stalled[0], &c, 1), 1); /* it holds the machine now */
	uint64_t before = fake_worker_count(w.remote);
	usleep(20000);
	assert_int_equal(fake_worker_count(w.remote), before);
	assert_int_equal(kill(keeper, SIGKILL), 0);
	assert_int_equal(waitpid(keeper, NULL, 0), keeper);
	assert_counts(w.remote);
	close(stalled[0]);
	fake_worker_stop(&w);
}

static void test_image__state_that_does_not_fit_moves_no_memory(void **state)
{
	struct fake_worker w, to;
	struct image im;
	struct checkpoint_info info;
	struct capture_report c;
	struct restore_report r;
	uint64_t offset = 0, len;

	(void)state;
	image_init(&im);
	start(&w);
	assert_ok(capture_run(w.remote, &im.sink, "", NULL, &info, &c));
	memcpy(im.streams[2].data, "OLDER", 5);
	assert_string_equal(im.streams[2].name, "state");
	fake_worker_start(&to, "fake");
	assert_err(restore_run(&im.source, to.remote, NULL, &r), ERR_VERSION);
	assert_ok(remote_next_touched(to.remote, &offset, &len));
	assert_int_equal(len, 0);
	fake_worker_stop(&to);
	fake_worker_stop(&w);
	image_fini(&im);
}

static void test_image__incomplete_or_foreign_images_are_refused(void **state)
{
	struct fake_worker to;
	struct image im;
	struct restore_report r;
	struct vm_config config;
	unsigned i;

	(void)state;
	image_init(&im);
	fake_worker_start(&to, "fake");
	assert_err(restore_config(&im.source, &config), ERR_USAGE); /* somebody's files */
	config_fini(&config);
	assert_err(restore_run(&im.source, to.remote, NULL, &r), ERR_CORRUPT);
	assert_ok(sink_stream(&im.sink, "ram", FAKE_MEMORY_BYTES / 2, &i));
	assert_err(restore_run(&im.source, to.remote, NULL, &r), ERR_CORRUPT);
	im.streams[0].length = FAKE_MEMORY_BYTES;
	assert_err(restore_run(&im.source, to.remote, NULL, &r), ERR_CORRUPT); /* no state */
	assert_ok(sink_stream(&im.sink, "config", 9, &i));
	memcpy(im.streams[i].data, "{\"x\": 1}\n", 9);
	assert_err(restore_config(&im.source, &config), ERR_CORRUPT);
	config_fini(&config);
	fake_worker_stop(&to);
	image_fini(&im);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_image__captured_machine_goes_on_and_another_continues),
		cmocka_unit_test(test_image__paused_machine_stays_paused),
		cmocka_unit_test(test_image__failed_sink_never_stops_the_guest),
		cmocka_unit_test(test_image__killed_keeper_never_stops_the_guest),
		cmocka_unit_test(test_image__state_that_does_not_fit_moves_no_memory),
		cmocka_unit_test(test_image__incomplete_or_foreign_images_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
