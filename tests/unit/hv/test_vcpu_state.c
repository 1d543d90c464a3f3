/* SPDX-License-Identifier: Apache-2.0 */
/* test_vcpu_state: vCPUs and chips saved and loaded, natively on /dev/kvm: what comes
 * back is what went, guests do not notice, and no timer is lost or doubled. */
#include "tests/unit/hv/mini.h"

#include "base/clock.h"

#define LVT_PERIODIC 0x20000u

static int kvm;

/* ---- guests ---- */

/* rdi: rounds.  A chain over registers, SSE, stack and memory; the end in [rsi].  (SSE
 * moves only: software back ends of KVM emulate no more of it in ring 0.) */
__asm__(".pushsection .rodata\n"
	".global guest_chain, guest_chain_end\n"
	"guest_chain:\n"
	"	mov $0x0123456789abcdef, %rax\n"
	"	mov $6364136223846793005, %rbx\n"
	"	mov $1442695040888963407, %rbp\n"
	"	movups (%rsi), %xmm1\n"
	"	movups (%rsi), %xmm15\n"
	"1:	imul %rbx, %rax\n"
	"	add %rbp, %rax\n"
	"	push %rax\n"
	"	movups %xmm1, 0x8000(%rsi)\n" /* from the round before the last */
	"	xor 0x8000(%rsi), %rax\n"
	"	movups %xmm15, 0x8010(%rsi)\n"
	"	movups 0x8010(%rsi), %xmm1\n"
	"	mov %rax, 0x8018(%rsi)\n"
	"	movups 0x8010(%rsi), %xmm15\n"
	"	add 0x8008(%rsi), %rax\n"
	"	pop %r8\n"
	"	mov %r8, %r9\n"
	"	and $0x7fe8, %r9\n"
	"	xor 16(%rsi,%r9), %r8\n"
	"	add %r8, 16(%rsi,%r9)\n"
	"	rol $7, %r8\n"
	"	add %r8, %rax\n"
	"	dec %rdi\n"
	"	jnz 1b\n"
	"	mov %rax, (%rsi)\n"
	"	out %al, $0xf4\n"
	"	hlt\n"
	"guest_chain_end:\n"
	".popsection\n");
extern const uint8_t guest_chain[], guest_chain_end[];

/* rdi: how many one-shot timers.  Each is armed only after the one before was taken;
 * every other one is waited for in HLT.  r15 counts interrupts, [rsi] gets it, and
 * [rsi + 8] how often the count was not what it had to be. */
__asm__(".pushsection .rodata\n"
	".global guest_oneshot, guest_oneshot_handler, guest_oneshot_end\n"
	"guest_oneshot:\n"
	"	mov $0xfee00000, %ebx\n"
	"	movl $0x1ff, 0xf0(%rbx)\n"
	"	movl $0x40, 0x320(%rbx)\n"
	"	movl $0xb, 0x3e0(%rbx)\n"
	"	xor %r15, %r15\n"
	"	xor %r14, %r14\n"
	"	mov $12345, %r13\n"
	"1:	inc %r14\n"
	"	imul $1103515245, %r13, %r13\n"
	"	add $12345, %r13\n"
	"	mov %r13, %rax\n"
	"	shr $16, %rax\n"
	"	and $0x7ffff, %eax\n" /* up to 0.5 ms */
	"	add $1000, %eax\n"
	"	mov %eax, 0x380(%rbx)\n"
	"	test $1, %r14\n"
	"	jz 4f\n"
	"2:	cli\n"
	"	cmp %r14, %r15\n"
	"	jae 3f\n"
	"	sti\n"
	"	hlt\n"
	"	jmp 2b\n"
	"4:	sti\n"
	"5:	pause\n"
	"	cmp %r14, %r15\n"
	"	jb 5b\n"
	"	cli\n"
	"3:	je 6f\n"
	"	incq 8(%rsi)\n"
	"6:	sti\n"
	"	nop\n"
	"	dec %rdi\n"
	"	jnz 1b\n"
	"	mov %r15, (%rsi)\n"
	"	out %al, $0xf4\n"
	"	hlt\n"
	"guest_oneshot_handler:\n"
	"	inc %r15\n"
	"	movl $0, 0xb0(%rbx)\n"
	"	iretq\n"
	"guest_oneshot_end:\n"
	".popsection\n");
extern const uint8_t guest_oneshot[], guest_oneshot_handler[], guest_oneshot_end[];

/* rdi: ticks of a timer of 50 ms to wait for, in HLT; [rsi + 16]: its LVT entry.  [rsi]: TSC when it was
 * started, [rsi + 8]: TSC after the last tick. */
__asm__(".pushsection .rodata\n"
	".global guest_periodic, guest_periodic_handler, guest_periodic_end\n"
	"guest_periodic:\n"
	"	mov $0xfee00000, %ebx\n"
	"	movl $0x1ff, 0xf0(%rbx)\n"
	"	mov 16(%rsi), %eax\n"
	"	mov %eax, 0x320(%rbx)\n"
	"	movl $0xb, 0x3e0(%rbx)\n"
	"	xor %r15, %r15\n"
	"	movl $50000000, 0x380(%rbx)\n"
	"	rdtsc\n"
	"	shl $32, %rdx\n"
	"	or %rdx, %rax\n"
	"	mov %rax, (%rsi)\n"
	"1:	cli\n"
	"	cmp %rdi, %r15\n"
	"	jae 2f\n"
	"	sti\n"
	"	hlt\n"
	"	jmp 1b\n"
	"2:	rdtsc\n"
	"	shl $32, %rdx\n"
	"	or %rdx, %rax\n"
	"	mov %rax, 8(%rsi)\n"
	"	out %al, $0xf4\n"
	"	hlt\n"
	"guest_periodic_handler:\n"
	"	inc %r15\n"
	"	movl $0, 0xb0(%rbx)\n"
	"	iretq\n"
	"guest_periodic_end:\n"
	".popsection\n");
extern const uint8_t guest_periodic[], guest_periodic_handler[], guest_periodic_end[];

static void load_guest(uint8_t *mem, const uint8_t *code, const uint8_t *end,
		       const uint8_t *handler)
{
	mini_fill(mem, code, (size_t)(end - code), handler ? (size_t)(handler - code) : 0);
}

/* ---- tests ---- */

/* took_ns: time inside KVM_RUN.  moved NULL: undisturbed. */
static uint64_t chain(uint64_t rounds, unsigned *moved, uint64_t *took_ns)
{
	uint8_t *mem = mini_memory();
	uint64_t result;
	struct mini m;

	load_guest(mem, guest_chain, guest_chain_end, NULL);
	mini_open(&m, kvm, 1, mem);
	mini_start_vcpu(&m, 0, rounds);
	for (;;) {
		uint64_t start = clock_mono_ns();
		bool ended = mini_run(&m, 0, moved ? 500000 + mini_random() % 2000000
						   : 60 * NS_PER_SEC);

		*took_ns += clock_mono_ns() - start;
		if (ended)
			break;
		assert_non_null(moved);
		mini_move(&m);
		++*moved;
	}
	result = le64_get(mem + MINI_DATA);
	mini_close(&m);
	munmap(mem, MINI_MEMORY);
	return result;
}

static void test_vcpu_state__a_chain_goes_on_unchanged(void **state)
{
	uint64_t rounds = 1000, took = 0, before, expected;
	unsigned moved = 0;

	(void)state;
	do { /* until twice as many take 40 ms more: hosts differ by a factor of a thousand */
		rounds *= 2;
		before = took;
		took = 0;
		expected = chain(rounds, NULL, &took);
	} while (took < before + 40 * NS_PER_MS);
	assert_true(chain(rounds, &moved, &took) == expected);
	printf("  %u moves in %llu rounds\n", moved, (unsigned long long)rounds);
	assert_true(moved > 10);
}

static void test_vcpu_state__no_one_shot_timer_is_lost_or_doubled(void **state)
{
	const uint64_t timers = 150;
	uint8_t *mem = mini_memory();
	unsigned moved = 0, idle = 0;
	uint64_t before = 0;
	struct mini m;

	(void)state;
	load_guest(mem, guest_oneshot, guest_oneshot_end, guest_oneshot_handler);
	mini_open(&m, kvm, 1, mem);
	mini_start_vcpu(&m, 0, timers);
	while (!mini_run(&m, 0, 100000 + mini_random() % 1000000)) {
		struct kvm_regs r;

		assert_ok(kvm_state_get_regs(m.vcpus[0].fd, &r));
		idle = r.r15 == before ? idle + 1 : 0;
		before = r.r15;
		if (idle > 400)
			fail_msg("timer %llu was lost after %u moves", r.r14, moved);
		mini_move(&m);
		moved++;
	}
	printf("  %u moves, %llu timers\n", moved, (unsigned long long)timers);
	assert_true(moved > 20);
	assert_int_equal(le64_get(mem + MINI_DATA), timers);
	assert_int_equal(le64_get(mem + MINI_DATA + 8), 0);
	mini_close(&m);
	munmap(mem, MINI_MEMORY);
}

#define TICKS 30u
#define TICK_MS 50u

/* Guest time that TICKS ticks take, with interruptions, each a move or none.  Where a
 * KVM cannot set the TSC, the time inside KVM_RUN is nearly the same. */
static uint64_t ticks_take_ms(bool moving, unsigned *kicks)
{
	uint8_t *mem = mini_memory();
	uint64_t ran_ns = 0, start, spent_ms;
	struct mini m;
	bool ended;

	load_guest(mem, guest_periodic, guest_periodic_end, guest_periodic_handler);
	le32_put(mem + MINI_DATA + 16, LVT_PERIODIC | MINI_VECTOR);
	mini_open(&m, kvm, 1, mem);
	mini_start_vcpu(&m, 0, TICKS);
	do {
		start = clock_mono_ns();
		ended = mini_run(&m, 0, 5 * NS_PER_MS + mini_random() % (20 * NS_PER_MS));
		ran_ns += clock_mono_ns() - start;
		if (!ended && moving)
			mini_move(&m);
		*kicks += !ended;
		if (ran_ns > 60 * NS_PER_SEC)
			fail_msg("the timer stopped");
	} while (!ended);
	spent_ms = (le64_get(mem + MINI_DATA + 8) - le64_get(mem + MINI_DATA)) /
		   vcpu_plan_tsc_khz(m.plan);
	if (!vcpu_plan_sets_tsc(m.plan))
		spent_ms = ran_ns / NS_PER_MS;
	mini_close(&m);
	munmap(mem, MINI_MEMORY);
	return spent_ms;
}

/* Guest time passes only while the guest runs (and while its state is being read), so
 * the ticks that it took must be those that its clock says were due.  The period is
 * long against the time of a move, and a host so busy that it makes one of two ticks
 * without any move is not judged. */
static void test_vcpu_state__no_periodic_tick_is_lost(void **state)
{
	unsigned moves = 0, kicks = 0;
	uint64_t undisturbed = ticks_take_ms(false, &kicks), moved = ticks_take_ms(true, &moves);

	(void)state;
	printf("  %u ticks of %u ms: %llu ms with %u kicks, %llu ms with %u moves\n", TICKS, TICK_MS,
	       (unsigned long long)undisturbed, kicks, (unsigned long long)moved, moves);
	assert_true(moves > 20);
	assert_true(moved >= (TICKS - 2) * TICK_MS);
	if (undisturbed > (TICKS + 1) * TICK_MS)
		skip();
	assert_true(moved <= (TICKS + 4) * TICK_MS);
}

static struct state_file *save(struct mini *m, struct state_out **out, uint64_t *tsc)
{
	struct state_file *file;
	const uint8_t *p;
	size_t len;

	assert_ok(state_out_create(out));
	assert_ok(vm_state_save(m->vm_fd, *out));
	assert_ok(vcpu_state_save(m->plan, m->vcpus, m->count, *out, tsc));
	assert_ok(state_out_finish(*out, &p, &len));
	assert_ok(state_open(p, len, &file));
	return file;
}

/* Every field of every section, but for times. */
static void compare(const struct state_file *a, const struct state_file *b)
{
	assert_int_equal(state_sections(a), state_sections(b));
	for (size_t i = 0; i < state_sections(a); i++) {
		struct state_raw x, y;
		uint32_t instance, version;
		const char *kind;
		size_t at = 0, bt = 0;

		state_section(a, i, &kind, &instance, &version);
		while (state_next_field(a, i, &at, &x)) {
			assert_true(state_next_field(b, i, &bt, &y));
			assert_int_equal(x.tag, y.tag);
			if (!strcmp(kind, "vcpu") && x.tag == 131)
				continue; /* tsc */
			if (!strcmp(kind, "pit") && x.tag % 16 == 12)
				continue; /* elapsed */
			if (x.len != y.len || memcmp(x.p, y.p, x.len) != 0)
				fail_msg("%s.%u field %u differs", kind, instance, x.tag);
		}
	}
}

/* The guest's timer runs, and is not over.  Slow hosts need some tries to get there. */
static bool armed(const struct mini *m)
{
	struct kvm_lapic_state lapic;

	assert_ok(kvm_state_get_lapic(m->vcpus[0].fd, &lapic));
	return le32_get(lapic.regs + 0x380) != 0 && le32_get(lapic.regs + 0x390) != 0;
}

static void open_armed(struct mini *m, uint8_t *mem, uint32_t lvt)
{
	for (unsigned tries = 0; tries < 20; tries++) {
		load_guest(mem, guest_periodic, guest_periodic_end, guest_periodic_handler);
		le32_put(mem + MINI_DATA + 16, lvt);
		mini_open(m, kvm, 1, mem);
		mini_start_vcpu(m, 0, 1000);
		for (unsigned runs = 0; runs < 20 && !armed(m); runs++)
			assert_false(mini_run(m, 0, 5 * NS_PER_MS));
		if (armed(m))
			return;
		mini_close(m);
	}
	fail_msg("the guest does not arm its timer");
}

/* An expiry that falls into the time while a vCPU is parked must be in its state. */
static void expires_while_parked(uint32_t lvt, bool stopped)
{
	const struct timespec nap = {.tv_nsec = 80 * NS_PER_MS};
	uint8_t *mem = mini_memory(), lapic[256];
	uint64_t tsc[MINI_MAX_VCPUS];
	struct state_out *out;
	struct state_file *file;
	struct state_in *in;
	struct mini m;

	open_armed(&m, mem, lvt);
	nanosleep(&nap, NULL);
	file = save(&m, &out, tsc);
	assert_ok(state_find(file, &vcpu_state_kind, 0, &in));
	assert_ok(state_get_exact(in, 133, lapic, sizeof(lapic)));
	assert_int_equal(le32_get(lapic + 0x320 / 4), lvt);
	/* IRR or, if KVM began to deliver it, ISR. */
	assert_int_equal(
		(le32_get(lapic + 0x220 / 4) | le32_get(lapic + 0x120 / 4)) & 1u, 1);
	assert_int_equal(le32_get(lapic + 0x380 / 4), stopped ? 0 : 50000000);
	state_close(file);
	state_out_destroy(out);
	mini_close(&m);
	munmap(mem, MINI_MEMORY);
}

static void test_vcpu_state__an_expiry_while_parked_is_saved(void **state)
{
	(void)state;
	expires_while_parked(LVT_PERIODIC | MINI_VECTOR, false);
	expires_while_parked(MINI_VECTOR, true);
}

/* A vCPU can be parked between its triple fault and the exit for it. */
static void test_vcpu_state__a_pending_triple_fault_is_saved(void **state)
{
	uint8_t *mem = mini_memory();
	struct kvm_vcpu_events events;
	struct mini m;

	(void)state;
	open_armed(&m, mem, LVT_PERIODIC | MINI_VECTOR);
	if (!kvm_cap(m.vm_fd, KVM_CAP_X86_TRIPLE_FAULT_EVENT)) {
		printf("  skipped: this KVM does not tell pending triple faults\n");
		skip();
	}
	assert_ok(kvm_state_get_events(m.vcpus[0].fd, &events));
	assert_true(events.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
	events.flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	events.triple_fault.pending = 1;
	assert_ok(kvm_state_set_events(m.vcpus[0].fd, &events));
	mini_move(&m);
	assert_int_equal(kvm_run(m.vcpus[0].fd), 0);
	assert_int_equal(m.vcpus[0].run->exit_reason, KVM_EXIT_SHUTDOWN);
	mini_close(&m);
	munmap(mem, MINI_MEMORY);
}

static void scramble(struct mini *m, uint32_t i)
{
	struct kvm_xsave x;
	struct kvm_debugregs d = {.db = {mini_random() & 0xffffffff, 0x1000, 0x2000, 0x3000},
				  .dr6 = 0xffff0ff0, .dr7 = 0x400};
	struct kvm_regs r = {.rip = MINI_CODE, .rflags = 2};
	struct kvm_vcpu_events ev;
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + 8 * sizeof(struct kvm_msr_entry));
	static const struct { uint32_t index; uint64_t value; } values[] = {
		{0xc0000081, 0x0023001000000000}, {0xc0000082, 0xffffffff81000000},
		{0xc0000084, 0x47700}, {0xc0000102, 0xffff888000000000}, {0x174, 0x10},
		{0x277, 0x0407050600070106}, {0x2ff, 0xc06}, {0x401, 0}};
	__u64 *gpr = &r.rax;
	uint32_t done = 0;

	mini_start_vcpu(m, i, 0);
	for (unsigned k = 0; k < 16; k++)
		gpr[k] = mini_random();
	assert_ok(kvm_state_set_regs(m->vcpus[i].fd, &r));
	assert_ok(kvm_state_get_xsave2(m->vcpus[i].fd, &x));
	for (unsigned k = 40; k < 104; k++) /* XMM0-15 */
		x.region[k] = (uint32_t)mini_random();
	x.region[128] |= 3;
	assert_ok(kvm_state_set_xsave(m->vcpus[i].fd, &x));
	assert_ok(kvm_state_set_debugregs(m->vcpus[i].fd, &d));
	msrs->nmsrs = 8;
	for (unsigned k = 0; k < 8; k++)
		msrs->entries[k] = (struct kvm_msr_entry){.index = values[k].index,
							  .data = values[k].value + (k == 4) * i};
	assert_ok(kvm_state_set_msrs(m->vcpus[i].fd, msrs, &done));
	assert_int_equal(done, 8);
	free(msrs);
	assert_ok(kvm_state_get_events(m->vcpus[i].fd, &ev));
	ev.nmi.pending = 1;
	ev.interrupt.shadow = i == 1;
	ev.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	assert_ok(kvm_state_set_events(m->vcpus[i].fd, &ev));
	if (i == 2)
		assert_ok(kvm_state_set_mp_state(m->vcpus[i].fd, KVM_MP_STATE_HALTED));
	if (i == 3)
		assert_ok(kvm_state_set_mp_state(m->vcpus[i].fd, KVM_MP_STATE_INIT_RECEIVED));
}

static void test_vcpu_state__every_field_comes_back(void **state)
{
	uint8_t *mem = mini_memory();
	uint64_t tsc[MINI_MAX_VCPUS], again[MINI_MAX_VCPUS];
	struct state_out *first_out, *second_out;
	struct state_file *first, *second;
	struct mini a, b;

	(void)state;
	mini_open(&a, kvm, 4, mem);
	for (uint32_t i = 0; i < 4; i++)
		scramble(&a, i);
	first = save(&a, &first_out, tsc);
	mini_open(&b, kvm, 4, mem);
	assert_ok(vcpu_state_load(b.plan, b.vcpus, 4, first, again));
	assert_ok(vm_state_load(b.vm_fd, first));
	assert_memory_equal(tsc, again, sizeof(tsc));
	second = save(&b, &second_out, again);
	compare(first, second);
	state_close(first);
	state_close(second);
	state_out_destroy(first_out);
	state_out_destroy(second_out);
	mini_close(&a);
	mini_close(&b);
	munmap(mem, MINI_MEMORY);
}

static void test_vcpu_state__tsc_goes_on_and_differences_stay(void **state)
{
	const uint64_t set[4] = {1000000000000, 1000000000007, 999000000000, 1000000000000};
	uint8_t *mem = mini_memory();
	uint64_t got[4], ms;
	struct timespec nap = {.tv_nsec = 20000000};
	struct mini m;

	(void)state;
	mini_open(&m, kvm, 4, mem);
	if (!vcpu_plan_sets_tsc(m.plan)) {
		printf("  skipped: this KVM cannot set a guest's TSC\n");
		mini_close(&m);
		munmap(mem, MINI_MEMORY);
		skip();
	}
	assert_ok(vcpu_state_set_tsc(m.vcpus, 4, set));
	nanosleep(&nap, NULL);
	assert_ok(vcpu_state_get_tsc(m.vcpus, 4, got));
	for (unsigned i = 1; i < 4; i++)
		assert_true(got[i] - got[0] == set[i] - set[0]);
	ms = (got[0] - set[0]) / vcpu_plan_tsc_khz(m.plan);
	assert_in_range(ms, 19, 2000);
	mini_close(&m);
	munmap(mem, MINI_MEMORY);
}

static void test_vcpu_state__a_cut_or_foreign_section_changes_nothing(void **state)
{
	uint8_t *mem = mini_memory();
	uint64_t tsc[MINI_MAX_VCPUS], again[MINI_MAX_VCPUS];
	struct state_out *out, *after_out;
	struct state_file *file, *after;
	struct mini a, b;

	(void)state;
	mini_open(&a, kvm, 1, mem);
	scramble(&a, 0);
	file = save(&a, &out, tsc);
	mini_open(&b, kvm, 2, mem);
	after = save(&b, &after_out, again);
	/* b has a second vCPU, for which there is no section. */
	assert_err(vcpu_state_load(b.plan, b.vcpus, 2, file, tsc), ERR_NOTFOUND);
	state_close(file);
	state_out_destroy(out);
	file = save(&b, &out, again);
	compare(after, file);
	state_close(file);
	state_close(after);
	state_out_destroy(out);
	state_out_destroy(after_out);
	mini_close(&a);
	mini_close(&b);
	munmap(mem, MINI_MEMORY);
}

static void test_vcpu_state__four_vcpus_are_quick(void **state)
{
	uint8_t *mem = mini_memory();
	uint64_t tsc[MINI_MAX_VCPUS], best = UINT64_MAX;
	struct mini a, b;

	(void)state;
	mini_open(&a, kvm, 4, mem);
	mini_open(&b, kvm, 4, mem);
	for (uint32_t i = 0; i < 4; i++)
		scramble(&a, i);
	for (unsigned n = 0; n < 20; n++) {
		uint64_t start = clock_mono_ns();
		struct state_out *out;
		struct state_file *file = save(&a, &out, tsc);

		assert_ok(vcpu_state_load(b.plan, b.vcpus, 4, file, tsc));
		assert_ok(vm_state_load(b.vm_fd, file));
		assert_ok(vcpu_state_start(b.plan, b.vcpus, 4, tsc));
		state_close(file);
		state_out_destroy(out);
		if (clock_mono_ns() - start < best)
			best = clock_mono_ns() - start;
	}
	printf("  save and load of 4 vCPUs: %llu us\n", (unsigned long long)best / 1000);
	/* The figure proper is the benchmark's; this catches an order of magnitude. */
	assert_true(best < 20 * NS_PER_MS);
	mini_close(&a);
	mini_close(&b);
	munmap(mem, MINI_MEMORY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vcpu_state__every_field_comes_back),
		cmocka_unit_test(test_vcpu_state__an_expiry_while_parked_is_saved),
		cmocka_unit_test(test_vcpu_state__a_pending_triple_fault_is_saved),
		cmocka_unit_test(test_vcpu_state__tsc_goes_on_and_differences_stay),
		cmocka_unit_test(test_vcpu_state__a_cut_or_foreign_section_changes_nothing),
		cmocka_unit_test(test_vcpu_state__four_vcpus_are_quick),
		cmocka_unit_test(test_vcpu_state__a_chain_goes_on_unchanged),
		cmocka_unit_test(test_vcpu_state__no_one_shot_timer_is_lost_or_doubled),
		cmocka_unit_test(test_vcpu_state__no_periodic_tick_is_lost),
	};

	kvm = mini_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
