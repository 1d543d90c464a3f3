/* SPDX-License-Identifier: Apache-2.0 */
/* rt: the run time that every tiny guest is linked with.
 *
 * A guest supplies guest_main() and, if it must speak before anything is set up, guest_early().
 * Memory is identity mapped, everything is reachable from ring 3.  All code is built with general
 * registers only, so that no interrupt handler touches SSE, AVX or x87 state by accident: that
 * state belongs to the assembler of the guest under test.
 *
 * Threads: one flow of control per vCPU plus interrupts on the same stack.  Functions marked "any
 * CPU" take their own locks; the others are called on the boot CPU before smp_start(). */
#ifndef GUEST_RT_H
#define GUEST_RT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPUS_MAX 32u
#define KSTACK_BYTES 16384u	/* must agree with crt0.S */
#define USTACK_BYTES 65536u

/* ---- machine instructions ---- */

static inline void outb(uint8_t v, uint16_t port)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline void outw(uint16_t v, uint16_t port)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline void outl(uint32_t v, uint16_t port)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint16_t inw(uint16_t port)
{
	uint16_t v;
	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t v;
	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;
	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;
	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32))
			 : "memory");
}

struct cpuid {
	uint32_t a, b, c, d;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t sub)
{
	struct cpuid r;
	__asm__ volatile("cpuid"
			 : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
			 : "a"(leaf), "c"(sub));
	return r;
}

static inline uint64_t irq_save(void)
{
	uint64_t f;
	__asm__ volatile("pushfq; popq %0; cli" : "=r"(f) : : "memory");
	return f;
}

static inline void irq_restore(uint64_t f)
{
	if (f & 0x200u)
		__asm__ volatile("sti" : : : "memory");
}

static inline void irq_enable(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void irq_disable(void)
{
	__asm__ volatile("cli" : : : "memory");
}

/* Enable interrupts and halt until one came; leaves them enabled. */
static inline void wait_irq(void)
{
	__asm__ volatile("sti; hlt" : : : "memory");
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

struct lock {
	uint32_t held;
};

/* Take l with interrupts off; the result goes to lock_release().  Any CPU. */
uint64_t lock_take(struct lock *l);
void lock_release(struct lock *l, uint64_t flags);

/* ---- per-CPU data ---- */

struct frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/* crt0.S knows the offsets of the first two fields. */
struct cpu {
	uint64_t user_ksp;	/* kernel stack to come back to from ring 3 */
	uint64_t *tss_rsp0;
	uint32_t id;
	uint32_t faults;	/* faults caught so far */
	uint64_t catch_rip;	/* where to go on after the next fault; 0 = a fault is fatal */
	uint64_t catch_vector;	/* vector of the last caught fault */
	uint64_t catch_error;
	void *guest;		/* the guest's own per-CPU data */
	volatile uint32_t online;
	uint32_t no_gate;	/* times that INT or SYSCALL was an undefined opcode in ring 3 */
};

extern struct cpu cpus[CPUS_MAX];

/* The CPU this runs on.  Ring 0 only. */
struct cpu *cpu_this(void);

/* ---- start-up ---- */

/* Optional: runs first of all, on the boot CPU, with nothing but a stack. */
void guest_early(void);
/* The guest.  Boot CPU, interrupts off, descriptor tables loaded. */
void guest_main(void);

/* ---- command line: words "name=value" or "name" ---- */

/* Value of the last word `name=`, or fallback; borrowed for ever. */
const char *arg_str(const char *name, const char *fallback);
/* The same as a number: decimal or 0x hexadecimal, suffix K, M or G.  Stops the guest on nonsense. */
uint64_t arg_u64(const char *name, uint64_t fallback);

/* ---- strings ---- */

void *memset(void *d, int c, size_t n);
void *memcpy(void *d, const void *s, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
bool str_eq(const char *a, const char *b);

/* splitmix64's step: a well mixed function of x. */
uint64_t mix64(uint64_t x);

/* ---- output ---- */

/* Format into buf: %s %c %u %d %x %lu %lx %%, with 0-padding and width.  Always terminated; result
 * is the length. */
size_t format_v(char *buf, size_t size, const char *fmt, va_list ap);
__attribute__((format(printf, 3, 4))) size_t format(char *buf, size_t size, const char *fmt, ...);
/* One print is one uninterrupted piece of output, polled or by interrupt, as the serial port is set.
 * Any CPU, at most 400 bytes. */
__attribute__((format(printf, 1, 2))) void print(const char *fmt, ...);

/* ---- serial port at 0x3f8 ---- */

/* Write by waiting for the transmitter.  Takes no lock: for the first and the last words. */
void serial_polled(const char *s, size_t n);
/* From now on output goes through a ring that the transmitter's interrupt empties, and received
 * bytes go to rx (may be NULL), called in interrupt context.  Needs irq_init(). */
void serial_irq_start(void (*rx)(uint8_t byte));
void serial_write(const char *s, size_t n);
/* Wait until everything is out.  Interrupts must be on where output is by interrupt. */
void serial_drain(void);
/* True while bytes wait for the transmitter's interrupt; *progress counts the bytes sent so far. */
bool serial_pending(uint64_t *progress);
/* Back to polled output, whatever state the port is in. */
void serial_panic_mode(void);

/* ---- interrupts ---- */

enum {
	VEC_PIC = 0x20,		/* +0..15 */
	VEC_IOAPIC = 0x30,	/* +0..23 */
	VEC_LAPIC_TIMER = 0x50,
	VEC_SPURIOUS = 0xff,
};

typedef void irq_fn(struct frame *f);

/* Remap and mask the PIC, mask the IOAPIC, switch this CPU's LAPIC on with the PIC wired to LINT0. */
void irq_init(void);
/* The same LAPIC part, on every other CPU. */
void lapic_init(bool boot_cpu);
void irq_handler(unsigned vector, irq_fn *fn);
void pic_unmask(unsigned irq);
void ioapic_route(unsigned gsi, unsigned vector, uint32_t apic_id);
void pic_eoi(unsigned irq);
void lapic_eoi(void);
uint32_t lapic_read(uint32_t reg);
void lapic_write(uint32_t reg, uint32_t v);
/* True if an 8259, and a PIT, answer. */
bool pic_present(void);

/* ---- time ---- */

extern uint64_t tsc_hz, lapic_hz;

/* Find out tsc_hz and lapic_hz (divider 1): Hyper-V's frequency MSRs, else the PIT. */
void timer_calibrate(void);
/* Start the PIT's channel 0 as a rate generator.  The result is false if there is none. */
bool pit_periodic(unsigned hz);
void lapic_oneshot(uint32_t ticks);
void lapic_periodic(uint32_t ticks);
void lapic_timer_stop(void);

/* ---- Hyper-V ---- */

/* CPUID announces "Microsoft Hv". */
bool hv_present(void);
/* Set guest OS id, hypercall page and TSC page.  False if the hypervisor did not take them. */
bool hv_enable(void);
uint64_t hv_hypercall(uint64_t control, uint64_t in, uint64_t out);
/* The hypercall page, for those who want to call it from where they should not. */
void *hv_hypercall_page(void);
/* Reference time in 100 ns by the TSC page; false if the page is not valid. */
bool hv_page_time(uint64_t *t_100ns);

/* ---- faults ---- */

/* rdmsr/wrmsr that report instead of dying. */
bool rdmsr_safe(uint32_t msr, uint64_t *v);
bool wrmsr_safe(uint32_t msr, uint64_t v);

/* ---- ring 3 ---- */

typedef uint64_t user_fn(void *arg);

/* Run fn(arg) in ring 3, interrupts on, and give back its result.  It comes back through the gate
 * 0x80, or by SYSCALL where by_syscall is set.  Any CPU, not from interrupts. */
uint64_t user_call(user_fn *fn, void *arg, bool by_syscall);
/* Set STAR, LSTAR, CSTAR, FMASK and EFER.SCE so that by_syscall works. */
void user_syscall_init(void);

/* ---- memory ---- */

struct range {
	uint64_t start, bytes;
};

/* RAM ranges of the PVH memory map, without the first MiB and this image; borrowed for ever. */
const struct range *mem_ranges(unsigned *n);
/* Extend the identity map from 4 GiB to everything in the memory map. */
void mem_map_all(void);
/* Take zeroed pages, 4 KiB aligned, below 4 GiB, for ever. */
void *mem_take(uint64_t bytes);
/* The same without the zeroing. */
void *mem_take_dirty(uint64_t bytes);

/* ---- CPUs ---- */

/* Start the CPUs 1..n-1; each runs fn() with its LAPIC on and interrupts off.  False if one of
 * them did not come within about 10 s. */
bool smp_start(unsigned n, void (*fn)(void));

/* ---- the end ---- */

_Noreturn void power_off(void);
_Noreturn void machine_reset(void);
_Noreturn void halt_forever(void);
/* Print "NAME: FAIL what" polled, whatever else goes on, then power off (QEMU: exit code 3). */
__attribute__((format(printf, 1, 2))) _Noreturn void fail(const char *fmt, ...);
/* The word before FAIL; set it first thing. */
extern const char *guest_name;

/* ---- what ring 0 can do here ---- */

/* TSC cycles per simple instruction in ring 0, the best of several tries; above RING0_EMULATED, the
 * kernel-mode code of this guest is interpreted by an emulator that knows few vector instructions. */
#define RING0_EMULATED 150u
uint64_t ring0_cycles(void);

#endif
