/* SPDX-License-Identifier: Apache-2.0 */
/* bench_state: what saving and loading the machine state of a tiny guest costs.
 *
 *   bench_state GUEST.elf VCPUS RUNS
 *
 * Prints the medians as JSON: {"vcpus", "save_ns", "load_ns", "state_bytes"}.  Saving
 * is vm_save of a paused machine; loading is vm_load into a new one whose creation is
 * complete, its background part included. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "hv/vm.h"

#define MAX_RUNS 1000u

static void ignore_event(void *arg, const struct vm_event *event)
{
	(void)arg;
	(void)event;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t median(uint64_t *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

/* Boot, let the guest run for a moment, save it: the blob that is loaded later. */
static enum err run_and_save(const struct vm_config *config, const struct vm_host *host,
			     struct buf *state, uint64_t *save_ns)
{
	struct vm *vm = NULL;
	enum err e = vm_create(config, host, &vm);

	if (e == ERR_OK)
		e = vm_boot(vm);
	if (e == ERR_OK)
		e = vm_resume(vm);
	if (e == ERR_OK) {
		usleep(50000);
		e = vm_pause(vm);
	}
	if (e == ERR_OK) {
		uint64_t start = clock_mono_ns();
		e = vm_save(vm, state);
		*save_ns = clock_mono_ns() - start;
	}
	vm_destroy(vm);
	return e;
}

static enum err load(const struct vm_config *config, const struct vm_host *host,
		     const struct buf *state, uint64_t *load_ns)
{
	struct vm *vm = NULL;
	enum err e = vm_create(config, host, &vm);

	if (e == ERR_OK) {
		usleep(50000); /* creation ends in the background */
		uint64_t start = clock_mono_ns();
		e = vm_load(vm, state->data, state->len);
		*load_ns = clock_mono_ns() - start;
	}
	vm_destroy(vm);
	return e;
}

static enum err bench(const char *guest, uint32_t vcpus, size_t runs)
{
	static uint64_t save_ns[MAX_RUNS], load_ns[MAX_RUNS];
	AUTO_BUF struct buf state = {0};
	AUTO_FD int kvm = -1;
	AUTO_FD int kernel = -1;
	struct vm_config config;
	struct vm_host host = {.initrd_fd = -1, .event = ignore_event};

	config_init(&config);
	config.memory_bytes = 64 << 20;
	config.vcpus = vcpus;
	snprintf(config.name, sizeof(config.name), "bench");
	config.cmdline = strdup("mode=idle");
	enum err e = fs_open(AT_FDCWD, "/dev/kvm", O_RDWR, 0, &kvm);
	if (e == ERR_OK)
		e = fs_open(AT_FDCWD, guest, O_RDONLY, 0, &kernel);
	if (e == ERR_OK)
		e = loop_create(&host.loop);
	host.kvm_fd = kvm;
	host.kernel_fd = kernel;
	for (int i = 0; e == ERR_OK && i < 2; i++)
		e = console_create(host.loop, &host.console[i]);
	for (size_t i = 0; e == ERR_OK && i < runs; i++) {
		buf_clear(&state);
		e = run_and_save(&config, &host, &state, &save_ns[i]);
		if (e == ERR_OK)
			e = load(&config, &host, &state, &load_ns[i]);
	}
	if (e == ERR_OK)
		printf("{\"vcpus\": %u, \"save_ns\": %llu, \"load_ns\": %llu, \"state_bytes\": %zu}\n",
		       vcpus, (unsigned long long)median(save_ns, runs),
		       (unsigned long long)median(load_ns, runs), state.len);
	for (int i = 0; i < 2; i++)
		console_destroy(host.console[i]);
	loop_destroy(host.loop);
	config_fini(&config);
	return e;
}

int main(int argc, char **argv)
{
	size_t runs = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;

	if (runs == 0 || runs > MAX_RUNS) {
		fprintf(stderr, "usage: bench_state GUEST.elf VCPUS RUNS\n");
		return 2;
	}
	enum err e = bench(argv[1], (uint32_t)strtoul(argv[2], NULL, 10), runs);
	if (e != ERR_OK)
		fprintf(stderr, "bench_state: %s\n", err_text());
	return e != ERR_OK;
}
