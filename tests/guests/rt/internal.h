/* SPDX-License-Identifier: Apache-2.0 */
/* internal: what the run time's own files and crt0.S share; no guest includes it. */
#ifndef GUEST_RT_INTERNAL_H
#define GUEST_RT_INTERNAL_H

#include <stdint.h>

#include "rt/rt.h"

extern uint8_t kstacks[], trap_stubs[], syscall_stubs[], trampoline[], trampoline_end[];
extern uint8_t user_gate[], user_gate_insn[], user_syscall_insn[], syscall_in_ring3[];
extern uint8_t rdmsr_insn[], wrmsr_insn[], msr_fixup[], _image_start[], _image_end[];
extern uint64_t boot_pdpt[512], pvh_start_info, ap_next_id;
extern void (*smp_entry)(void);


void user_by_gate(void);
void user_by_syscall(void);
uint64_t user_enter(user_fn *fn, void *arg, uint64_t stack, struct cpu *c, void (*entry)(void));
_Noreturn void user_leave(uint64_t result, struct cpu *c);
void count_down(uint64_t n);

/* Copy command line and memory map out of the loader's memory, which is free from then on. */
void boot_info_copy(void);

/* Keep a copy of the command line s, which may be NULL. */
void cmdline_set(const char *s);

/* crt0.S calls these two. */
void rt_main(uint64_t id);
void trap(struct frame *f);

#endif
