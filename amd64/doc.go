// Package amd64 holds the assembly that makes stores durable on x86-64:
// CLWB, CLFLUSHOPT and CLFLUSH write cache lines back, MOVNTDQ stores past
// the cache, SFENCE waits for both.
//
// Nothing but package flush should import it. flush decides which instruction
// the machine has and splits long work; the functions here trust their caller
// and execute what their name says, or die with SIGILL.
//
// The contract, a routine that flushes, one that fences and one that does both
// for a copy, follows PMDK's libpmem2 (pmem2_arch.h, x86_64/init.c). What
// differs is that a whole vector is one call: a goroutine can change cores
// between two calls, and a fence on another core drains nothing.
//
// Under the purego tag, and on other processors, the package is empty.
package amd64
