// Package arm64 holds the assembly that makes stores durable on AArch64: DC
// CVADP, DC CVAP and DC CVAC write cache lines back, DSB SY waits for them,
// DMB orders.
//
// Nothing but package flush should import it. flush asks the kernel which
// instruction user mode may execute and splits long work; the functions here
// trust their caller and execute what their name says, or die with SIGILL.
//
// A routine here is ordered as Linux's arch_wb_cache_pmem
// (arch/arm64/mm/flush.c): DMB OSH first, then one DC for every line, DSB SY
// last. Two habits of PMDK's aarch64 port are left behind: lines have the
// size that CTR_EL0 tells, not 64 bytes, and the end is a DSB, for a DMB
// orders write-backs without ever completing them.
//
// Under the purego tag, and on other processors, the package is empty.
package arm64
