/*
 * Runs single instructions (or two) from a given state and reports the state after them. Built for
 * aarch64 Linux and run under qemu-aarch64; record.ts writes its input and reads its output.
 *
 * A case is entered by returning from a signal handler with the wanted registers in the frame, and
 * left by the signal of the BRK that fills the rest of the code page, or of the fetch from the
 * inaccessible memory around it: so every register, SP included, may hold anything.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define RESERVED 0x40000000ul
#define RESERVED_END 0x50000000ul
#define CODE_PAGE 0x48000000ul
#define CODE (CODE_PAGE + 0x7f8)
#define DATA 0x48001000ul
#define PAGE 4096
#define BRK 0xd4200000u
#define MAX_CHANGES 64

struct input {
  uint32_t words[2], count, nzcv, fpcr, fpsr;
  uint64_t x[31], sp, v[64];
};

struct change {
  uint16_t offset;
  uint8_t value, unused;
};

struct output {
  uint32_t signal, nzcv, fpcr, fpsr;
  uint64_t pc, x[31], sp, v[64];
  uint32_t changes, unused;
  struct change change[MAX_CHANGES];
};

static uint8_t initial[PAGE];
static struct input in;
static struct output out;
static int started;

static void die(const char *why) {
  fprintf(stderr, "recorder: %s\n", why);
  _exit(1);
}

static struct fpsimd_context *fpsimd(ucontext_t *uc) {
  struct fpsimd_context *f = (void *)uc->uc_mcontext.__reserved;
  if (f->head.magic != FPSIMD_MAGIC) die("no FP/SIMD context in the frame");
  return f;
}

static void save(int signal, ucontext_t *uc) {
  struct fpsimd_context *f = fpsimd(uc);
  memset(&out, 0, sizeof out);
  out.signal = signal;
  out.nzcv = uc->uc_mcontext.pstate >> 28 & 15;
  out.fpcr = f->fpcr;
  out.fpsr = f->fpsr;
  out.pc = uc->uc_mcontext.pc;
  out.sp = uc->uc_mcontext.sp;
  memcpy(out.x, uc->uc_mcontext.regs, sizeof out.x);
  memcpy(out.v, f->vregs, sizeof out.v);
  const uint8_t *data = (const uint8_t *)DATA;
  for (int i = 0; i < PAGE; i++) {
    if (data[i] == initial[i]) continue;
    if (out.changes == MAX_CHANGES) die("too many bytes changed");
    out.change[out.changes++] = (struct change){i, data[i], 0};
  }
  if (fwrite(&out, sizeof out, 1, stdout) != 1) die("cannot write");
}

static void prepare(ucontext_t *uc) {
  if (fread(&in, sizeof in, 1, stdin) != 1) {
    fflush(stdout);
    _exit(0);
  }
  volatile uint32_t *code = (uint32_t *)CODE;
  for (unsigned i = 0; i < 2; i++) code[i] = i < in.count ? in.words[i] : BRK;
  __builtin___clear_cache((char *)CODE, (char *)CODE + 8);
  memcpy((void *)DATA, initial, PAGE);
  struct fpsimd_context *f = fpsimd(uc);
  f->fpcr = in.fpcr;
  f->fpsr = in.fpsr;
  memcpy(f->vregs, in.v, sizeof in.v);
  memcpy(uc->uc_mcontext.regs, in.x, sizeof in.x);
  uc->uc_mcontext.sp = in.sp;
  uc->uc_mcontext.pc = CODE;
  uc->uc_mcontext.pstate = (uint64_t)in.nzcv << 28;
}

static void handler(int signal, siginfo_t *info, void *context) {
  (void)info;
  if (started) save(signal, context);
  started = 1;
  prepare(context);
}

static void map(unsigned long at, unsigned long size, int protection, int fixed) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed;
  if (mmap((void *)at, size, protection, flags, -1, 0) != (void *)at) die("cannot map");
}

int main(void) {
  static uint8_t stack[1 << 16];
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  map(RESERVED, RESERVED_END - RESERVED, PROT_NONE, MAP_FIXED_NOREPLACE);
  map(CODE_PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_FIXED);
  map(DATA, PAGE, PROT_READ | PROT_WRITE, MAP_FIXED);
  for (unsigned i = 0; i < PAGE / 4; i++) ((uint32_t *)CODE_PAGE)[i] = BRK;
  if (fread(initial, PAGE, 1, stdin) != 1) die("no initial memory");
  sigaltstack(&alternate, 0);
  sigfillset(&action.sa_mask);
  sigaction(SIGTRAP, &action, 0);
  sigaction(SIGSEGV, &action, 0);
  sigaction(SIGBUS, &action, 0);
  sigaction(SIGILL, &action, 0);
  raise(SIGTRAP);
  return 1;
}
