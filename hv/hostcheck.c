/* SPDX-License-Identifier: Apache-2.0 */
/* hostcheck: what this host can do, and what follows from it.
 *
 * The measurements are in hostcheck_kvm.c and hostcheck_memory.c; here is what needs
 * no measuring (the CPU's own words), and the consequences. */
#include "hv/hostcheck.h"

#include <cpuid.h>
#include <string.h>
#include <unistd.h>

#include "hv/cpuid.h"
#include "hv/hostcheck_parts.h"

static void hostcheck_cpu_words(struct hostcheck *h)
{
	unsigned a = 0, b = 0, c = 0, d = 0, top = (unsigned)__get_cpuid_max(0x80000000, NULL);
	unsigned model[12];

	if (__get_cpuid(0, &a, &b, &c, &d)) {
		memcpy(h->vendor, &b, 4);
		memcpy(h->vendor + 4, &d, 4);
		memcpy(h->vendor + 8, &c, 4);
	}
	if (__get_cpuid(1, &a, &b, &c, &d))
		h->vmx = c >> 5 & 1;
	if (__get_cpuid(0x80000001, &a, &b, &c, &d))
		h->svm = c >> 2 & 1;
	if (__get_cpuid(0x80000007, &a, &b, &c, &d))
		h->tsc_invariant = d >> 8 & 1;
	if (top < 0x80000004)
		return;
	for (unsigned i = 0; i < 3; i++)
		__cpuid(0x80000002 + i, model[4 * i], model[4 * i + 1], model[4 * i + 2],
			model[4 * i + 3]);
	memcpy(h->model, model, sizeof(model));
	for (size_t n = strlen(h->model); n > 0 && h->model[n - 1] == ' '; n--)
		h->model[n - 1] = 0;
}

static enum err hostcheck_baseline(struct hostcheck *h, int kvm_fd)
{
	AUTO_BUF struct buf missing = {0};
	enum err e = cpuid_host_baseline(kvm_fd, &h->baseline, &missing);
	const char *text = buf_str(&missing);

	if (e != ERR_OK)
		return e;
	text += *text == ' ';
	strncpy(h->baseline_missing, text, sizeof(h->baseline_missing) - 1);
	if (strlen(text) >= sizeof(h->baseline_missing)) /* cut at a word */
		*strrchr(h->baseline_missing, ' ') = 0;
	return ERR_OK;
}

enum err hostcheck_run(struct hostcheck *out)
{
	int kvm_fd = -1;
	enum err e;

	memset(out, 0, sizeof(*out));
	hostcheck_cpu_words(out);
	hostcheck_kvm_open(out, &kvm_fd);
	e = kvm_fd >= 0 ? hostcheck_kvm_measure(out, kvm_fd) : ERR_OK;
	if (e == ERR_OK && kvm_fd >= 0)
		e = hostcheck_baseline(out, kvm_fd);
	if (kvm_fd >= 0)
		close(kvm_fd);
	return e == ERR_OK ? hostcheck_memory_measure(out) : e;
}

bool hostcheck_usable(const struct hostcheck *h)
{
	return h->kvm == HOSTCHECK_KVM_OK;
}

/* ---- consequences ---- */

#define SAY(out, ...) (buf_printf(out, __VA_ARGS__), buf_put_str(out, "\n"))

static void explain_kvm(const struct hostcheck *h, struct buf *out)
{
	if (!hostcheck_usable(h)) {
		SAY(out, "no machine can run here: %s", h->kvm_text);
		return;
	}
	if (!h->hardware_virtualization)
		SAY(out, "guest kernels run about %.0f times slower than this host's own code: KVM "
			 "emulates them in software; tiny guests run, stock kernels hardly boot",
		    h->guest_loops_per_s > 0 ? h->host_loops_per_s / h->guest_loops_per_s : 0.0);
	if (!h->tsc_offset)
		SAY(out, "this KVM cannot set a guest's TSC: after a restore the guest's clock goes "
			 "on, but programs that read the TSC itself see it jump");
	else if (!h->tsc_scaling)
		SAY(out, "the TSC cannot be scaled: a guest that moves here from a CPU of another "
			 "frequency keeps its clock, but programs that read the TSC itself see "
			 "another speed");
}

static void explain_cpu(const struct hostcheck *h, struct buf *out)
{
	if (!hostcheck_usable(h))
		return;
	if (h->baseline == CONFIG_CPU_HOST)
		SAY(out, "guests can only have --cpu host here, so images move only to hosts with "
			 "the same features; for x86-64-v2 this host lacks %s",
		    h->baseline_missing);
	else if (h->baseline != CONFIG_CPU_V4)
		SAY(out, "the best baseline here is --cpu %s; for the next one this host lacks %s",
		    config_cpu_name(h->baseline), h->baseline_missing);
}

static void explain_memory(const struct hostcheck *h, struct buf *out)
{
	if (hostcheck_usable(h) && !h->dirty_log)
		SAY(out, "the dirty log does not work: no incremental checkpoint, no migration");
	if (h->uffd == HOSTCHECK_UFFD_NONE)
		SAY(out, "no userfaultfd (%s): machines are restored only after all of their memory "
			 "was read", h->uffd_text);
	else if (h->uffd == HOSTCHECK_UFFD_USER_ONLY)
		SAY(out, "userfaultfd serves only faults of user code, not those of KVM (%s): no "
			 "instant restore", h->uffd_text);
	else if (!h->uffd_missing)
		SAY(out, "userfaultfd does not serve missing pages: no instant restore");
	if (h->uffd == HOSTCHECK_UFFD_FULL && !h->uffd_wp_anon)
		SAY(out, "userfaultfd cannot write-protect: a live checkpoint copies everything that "
			 "is left while the guest stands");
	if (!h->thp_anon)
		SAY(out, "no huge pages for guest memory (transparent_hugepage is %s): guests run "
			 "slower, and their memory costs more to track",
		    h->thp_mode[0] ? h->thp_mode : "not there");
}

void hostcheck_explain(const struct hostcheck *h, struct buf *out)
{
	explain_kvm(h, out);
	explain_cpu(h, out);
	explain_memory(h, out);
}
