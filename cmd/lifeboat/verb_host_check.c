/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat host check: measure what this host can do for machines. */
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/table.h"
#include "cmd/lifeboat/verbs.h"
#include "hv/hostcheck.h"

static enum err option(void *args, int key, char *value)
{
	bool *json = args;

	(void)value;
	if (key != CLI_KEY_JSON)
		return cli_unknown_key(key);
	*json = true;
	return ERR_OK;
}

static const struct argp_option options[] = {CLI_OPTION_JSON, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "host check",
	.doc = "Measure what this host can do for machines: KVM, the speed of guest code, dirty-page "
	       "tracking, userfaultfd, huge pages, the CPU. Takes less than a second and leaves nothing "
	       "behind. Exit code 4 if no machine can run here."
	       "\vExample:\n  lifeboat host check --json",
	.options = options,
	.option = option,
};

static const char *const kvm_words[] = {
	[HOSTCHECK_KVM_OK] = "ok",		 [HOSTCHECK_KVM_ABSENT] = "absent",
	[HOSTCHECK_KVM_NO_DRIVER] = "no-driver", [HOSTCHECK_KVM_FORBIDDEN] = "forbidden",
	[HOSTCHECK_KVM_BUSY] = "busy",		 [HOSTCHECK_KVM_UNUSABLE] = "unusable",
};
static const char *const uffd_words[] = {
	[HOSTCHECK_UFFD_NONE] = "none",
	[HOSTCHECK_UFFD_USER_ONLY] = "user-only",
	[HOSTCHECK_UFFD_FULL] = "full",
};

static const char *yes(bool b) { return b ? "yes" : "no"; }

static const char *baseline(const struct hostcheck *h)
{
	return h->baseline == CONFIG_CPU_HOST ? "none" : config_cpu_name(h->baseline);
}

/* A kernel that knows nothing of this host runs, and in hardware, not by an
 * emulator that takes a thousand times as long. */
static bool stock_kernels(const struct hostcheck *h)
{
	return hostcheck_usable(h) && h->hardware_virtualization;
}

/* ---- JSON ---- */

static json_t *caps_json(const struct hostcheck *h)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < h->cap_count; i++) {
		const struct hostcheck_cap *c = &h->caps[i];

		json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:i}", "name", c->name, "needed",
						      c->needed, "present", c->present, "value",
						      c->value));
	}
	return list;
}

static json_t *kvm_json(const struct hostcheck *h)
{
	return json_pack("{s:s, s:s, s:i, s:o, s:i, s:f}", "status", kvm_words[h->kvm], "message",
			 h->kvm_text, "api_version", h->api_version, "capabilities", caps_json(h),
			 "msrs", (int)h->msr_count, "state_us_per_vcpu", h->state_us_per_vcpu);
}

static json_t *speed_json(const struct hostcheck *h)
{
	return json_pack("{s:f, s:f, s:f, s:b}", "guest_loops_per_s", h->guest_loops_per_s,
			 "host_loops_per_s", h->host_loops_per_s, "exit_ns", h->exit_ns,
			 "hardware_virtualization", h->hardware_virtualization);
}

static json_t *dirty_json(const struct hostcheck *h)
{
	return json_pack("{s:b, s:f, s:b, s:I}", "log", h->dirty_log, "log_ns_per_gib",
			 h->dirty_log_ns_per_gib, "manual_protect", h->dirty_manual_protect,
			 "ring_entries", (json_int_t)h->dirty_ring_entries);
}

static json_t *uffd_json(const struct hostcheck *h)
{
	return json_pack("{s:s, s:s, s:b, s:b, s:b, s:b, s:b}", "status", uffd_words[h->uffd],
			 "message", h->uffd_text, "missing", h->uffd_missing, "missing_shmem",
			 h->uffd_missing_shmem, "minor_shmem", h->uffd_minor_shmem, "wp_anon",
			 h->uffd_wp_anon, "wp_shmem", h->uffd_wp_shmem);
}

static json_t *cpu_json(const struct hostcheck *h)
{
	return json_pack("{s:o, s:o, s:s, s:s, s:b, s:b, s:b, s:b, s:I, s:b}", "vendor",
			 jout_text(h->vendor), "model", jout_text(h->model), "baseline", baseline(h),
			 "baseline_missing", h->baseline_missing, "svm", h->svm, "vmx", h->vmx,
			 "tsc_scaling", h->tsc_scaling, "tsc_offset", h->tsc_offset, "tsc_khz",
			 (json_int_t)h->tsc_khz, "tsc_invariant", h->tsc_invariant);
}

static enum err show_json(const struct hostcheck *h, const char *remarks)
{
	json_t *pages = json_pack("{s:b, s:b, s:s, s:s}", "anonymous", h->thp_anon, "shared",
				  h->thp_shmem, "mode", h->thp_mode, "shared_mode", h->thp_shmem_mode);

	return jout_print(json_pack("{s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "usable",
				    hostcheck_usable(h), "stock_kernels", stock_kernels(h), "kvm",
				    kvm_json(h), "speed", speed_json(h),
				    "dirty_tracking", dirty_json(h), "userfaultfd", uffd_json(h),
				    "huge_pages", pages, "cpu", cpu_json(h), "remarks", remarks));
}

/* ---- text ---- */

static void rows_kvm(struct table *t, const struct hostcheck *h)
{
	unsigned present = 0;

	for (unsigned i = 0; i < h->cap_count; i++)
		present += h->caps[i].present;
	table_cell(t, "KVM");
	table_cell(t, "%s%s%s", kvm_words[h->kvm], h->kvm_text[0] ? ": " : "", h->kvm_text);
	table_cell(t, "KVM capabilities");
	table_cell(t, "%u of the %u that matter, %u MSRs", present, h->cap_count, h->msr_count);
	table_cell(t, "guest code");
	if (h->guest_loops_per_s <= 0 || h->host_loops_per_s <= 0)
		table_cell(t, "not measured");
	else if (h->guest_loops_per_s * 10 > h->host_loops_per_s)
		table_cell(t, "%.0f %% of the host's speed, %.2f us an exit",
			   100 * h->guest_loops_per_s / h->host_loops_per_s, h->exit_ns / 1000);
	else
		table_cell(t, "%.0f times slower than the host, %.2f us an exit",
			   h->host_loops_per_s / h->guest_loops_per_s, h->exit_ns / 1000);
	table_cell(t, "stock kernels");
	table_cell(t, "%s", stock_kernels(h) ? "yes" : "no: only guests that are made for it");
	table_cell(t, "machine state");
	if (h->state_us_per_vcpu > 0)
		table_cell(t, "%.0f us to save a vCPU", h->state_us_per_vcpu);
	else
		table_cell(t, "not measured");
}

static void rows_memory(struct table *t, const struct hostcheck *h)
{
	table_cell(t, "dirty log");
	table_cell(t, "%s, %.1f ms per GiB, manual protection: %s", yes(h->dirty_log),
		   h->dirty_log_ns_per_gib / 1e6, yes(h->dirty_manual_protect));
	table_cell(t, "dirty ring");
	if (h->dirty_ring_entries)
		table_cell(t, "%u entries", h->dirty_ring_entries);
	else
		table_cell(t, "no");
	table_cell(t, "userfaultfd");
	table_cell(t, "%s%s%s", uffd_words[h->uffd], h->uffd_text[0] ? ": " : "", h->uffd_text);
	table_cell(t, "userfaultfd modes");
	table_cell(t, "missing: %s, shared: %s, minor: %s; write protection: %s, shared: %s",
		   yes(h->uffd_missing), yes(h->uffd_missing_shmem), yes(h->uffd_minor_shmem),
		   yes(h->uffd_wp_anon), yes(h->uffd_wp_shmem));
	table_cell(t, "huge pages");
	table_cell(t, "private memory: %s (%s), shared memory: %s (%s)", yes(h->thp_anon), h->thp_mode,
		   yes(h->thp_shmem), h->thp_shmem_mode);
}

static void rows_cpu(struct table *t, const struct hostcheck *h)
{
	table_cell(t, "CPU");
	table_cell(t, "%s %s%s%s", h->vendor, h->model, h->svm ? ", SVM" : "", h->vmx ? ", VMX" : "");
	table_cell(t, "CPU baseline");
	table_cell(t, "%s%s%s", baseline(h), h->baseline_missing[0] ? "; for the next one are missing: " : "",
		   h->baseline_missing);
	table_cell(t, "TSC");
	table_cell(t, "%.3f GHz, invariant: %s, scaling: %s, offset: %s", h->tsc_khz / 1e6,
		   yes(h->tsc_invariant), yes(h->tsc_scaling), yes(h->tsc_offset));
}

static enum err show_text(const struct hostcheck *h, const char *remarks)
{
	static const char *const columns[] = {"WHAT", "HERE", NULL};
	struct table *t = NULL;
	enum err e = table_create(columns, &t);

	if (e != ERR_OK)
		return e;
	rows_kvm(t, h);
	rows_memory(t, h);
	rows_cpu(t, h);
	e = table_print(t);
	table_destroy(t);
	if (*remarks)
		cli_print("\n%s", remarks);
	return e;
}

enum err verb_host_check(int argc, char **argv)
{
	AUTO_BUF struct buf remarks = {0};
	struct hostcheck h = {0};
	bool json = false;
	enum err e = cli_parse(&verb, argc, argv, &json);

	if (e != ERR_OK || (e = hostcheck_run(&h)) != ERR_OK)
		return e;
	hostcheck_explain(&h, &remarks);
	e = json ? show_json(&h, buf_str(&remarks)) : show_text(&h, buf_str(&remarks));
	if (e == ERR_OK && !hostcheck_usable(&h))
		return err_note(ERR_UNSUPPORTED, 0, "this host can run no machines: %s",
				h.kvm_text[0] ? h.kvm_text : "see the remarks");
	return e;
}
