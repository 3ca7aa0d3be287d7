//go:build !purego

#include "textflag.h"

// How a line is written back; in BX.
#define CACHE      0	// not at all: the caches survive a power failure
#define CLFLUSH_   1
#define CLFLUSHOPT_ 2
#define CLWB_      3

// CLWB (AX), 66 0F AE /6: Go's assembler has no name for it.
#define CLWB_AX BYTE $0x66; BYTE $0x0f; BYTE $0xae; BYTE $0x30

// The entry points differ in one constant. They share a body by a tail jump,
// as the runtime's memequal does, so that each costs one call and no table of
// function pointers is needed (a call through one makes arguments escape).

// func PersistCLWB(vector unsafe.Pointer, count, streamBytes uintptr)
TEXT ·PersistCLWB(SB), NOSPLIT, $0-24
	MOVQ vector+0(FP), R8
	MOVQ count+8(FP), R9
	MOVQ streamBytes+16(FP), R10
	MOVQ $CLWB_, BX
	JMP  persist<>(SB)

// func PersistCLFLUSHOPT(vector unsafe.Pointer, count, streamBytes uintptr)
TEXT ·PersistCLFLUSHOPT(SB), NOSPLIT, $0-24
	MOVQ vector+0(FP), R8
	MOVQ count+8(FP), R9
	MOVQ streamBytes+16(FP), R10
	MOVQ $CLFLUSHOPT_, BX
	JMP  persist<>(SB)

// func PersistCLFLUSH(vector unsafe.Pointer, count, streamBytes uintptr)
TEXT ·PersistCLFLUSH(SB), NOSPLIT, $0-24
	MOVQ vector+0(FP), R8
	MOVQ count+8(FP), R9
	MOVQ streamBytes+16(FP), R10
	MOVQ $CLFLUSH_, BX
	JMP  persist<>(SB)

// func PersistCache(vector unsafe.Pointer, count, streamBytes uintptr)
TEXT ·PersistCache(SB), NOSPLIT, $0-24
	MOVQ vector+0(FP), R8
	MOVQ count+8(FP), R9
	MOVQ streamBytes+16(FP), R10
	MOVQ $CACHE, BX
	JMP  persist<>(SB)

// func WriteBackCLWB(p unsafe.Pointer, n uintptr)
TEXT ·WriteBackCLWB(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), DI
	MOVQ n+8(FP), DX
	MOVQ $CLWB_, BX
	JMP  writeBack<>(SB)

// func WriteBackCLFLUSHOPT(p unsafe.Pointer, n uintptr)
TEXT ·WriteBackCLFLUSHOPT(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), DI
	MOVQ n+8(FP), DX
	MOVQ $CLFLUSHOPT_, BX
	JMP  writeBack<>(SB)

// func WriteBackCLFLUSH(p unsafe.Pointer, n uintptr)
TEXT ·WriteBackCLFLUSH(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), DI
	MOVQ n+8(FP), DX
	MOVQ $CLFLUSH_, BX
	JMP  writeBack<>(SB)

// func PersistLinesCLWB(p unsafe.Pointer, n uintptr)
TEXT ·PersistLinesCLWB(SB), NOSPLIT, $0-16
	MOVQ  p+0(FP), AX
	MOVQ  n+8(FP), CX
	TESTQ CX, CX
	JZ    drain
	ADDQ  AX, CX
	ANDQ  $~63, AX

line:
	CLWB_AX
	ADDQ $64, AX
	CMPQ AX, CX
	JB   line

drain:
	SFENCE
	RET

// func StoreRelease(p *uint64, word uint64)
TEXT ·StoreRelease(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ word+8(FP), CX
	MOVQ CX, (AX)
	RET

// func Prefetch(p unsafe.Pointer)
TEXT ·Prefetch(SB), NOSPLIT, $0-8
	MOVQ        p+0(FP), AX
	PREFETCHT0  (AX)
	RET

// func Drain()
TEXT ·Drain(SB), NOSPLIT, $0-0
	SFENCE
	RET

// persist performs R9 entries at R8, writing back by BX and streaming copies
// of R10 bytes or more, then fences.
TEXT persist<>(SB), NOSPLIT, $0-0
	TESTQ R9, R9
	JZ    drain

entry:
	MOVQ  0(R8), DI
	MOVQ  8(R8), SI
	MOVQ  16(R8), DX
	TESTQ SI, SI
	JZ    lines
	CMPQ  DX, R10
	JAE   long
	CALL  copy<>(SB)

lines:
	CALL writeBack<>(SB)

next:
	ADDQ $24, R8
	DECQ R9
	JNZ  entry

drain:
	SFENCE
	RET

long:
	CALL stream<>(SB)
	JMP  next

// writeBack writes back by BX the lines that [DI, DI+DX) touches.
// Clobbers AX, CX.
TEXT writeBack<>(SB), NOSPLIT, $0-0
	TESTQ DX, DX
	JZ    done
	LEAQ  (DI)(DX*1), CX
	MOVQ  DI, AX
	ANDQ  $~63, AX
	CMPQ  BX, $CLWB_
	JEQ   clwb
	CMPQ  BX, $CLFLUSHOPT_
	JEQ   clflushopt
	CMPQ  BX, $CLFLUSH_
	JEQ   clflush

done:
	RET

clwb:
	CLWB_AX
	ADDQ $64, AX
	CMPQ AX, CX
	JB   clwb
	RET

clflushopt:
	CLFLUSHOPT (AX)
	ADDQ $64, AX
	CMPQ AX, CX
	JB   clflushopt
	RET

clflush:
	CLFLUSH (AX)
	ADDQ $64, AX
	CMPQ AX, CX
	JB   clflush
	RET

// copy copies DX bytes from SI to DI by ordinary stores, 16 at a time, then
// the rest by its binary digits: the 8 bytes of a word go in one store.
// Clobbers AX, CX, X0.
TEXT copy<>(SB), NOSPLIT, $0-0
	XORQ AX, AX
	JMP  test

sixteen:
	MOVOU (SI)(AX*1), X0
	MOVOU X0, (DI)(AX*1)
	MOVQ  CX, AX

test:
	LEAQ 16(AX), CX
	CMPQ CX, DX
	JLS  sixteen

	TESTQ $8, DX
	JZ    four
	MOVQ  (SI)(AX*1), CX
	MOVQ  CX, (DI)(AX*1)
	ADDQ  $8, AX

four:
	TESTQ $4, DX
	JZ    two
	MOVL  (SI)(AX*1), CX
	MOVL  CX, (DI)(AX*1)
	ADDQ  $4, AX

two:
	TESTQ   $2, DX
	JZ      one
	MOVWLZX (SI)(AX*1), CX
	MOVW    CX, (DI)(AX*1)
	ADDQ    $2, AX

one:
	TESTQ   $1, DX
	JZ      done
	MOVBLZX (SI)(AX*1), CX
	MOVB    CX, (DI)(AX*1)

done:
	RET

// stream copies DX bytes from SI to DI, whole lines past the cache. Only
// whole lines: a write-combining buffer that is evicted part full costs a
// read of the line (on Optane of a 256-byte block), more than it saves. The
// head and the tail share their lines with neighbours, so they are copied
// through the cache and their lines written back by BX.
// Clobbers AX, CX, SI, DI, DX, R11, X0 to X3.
TEXT stream<>(SB), NOSPLIT, $0-0
	MOVQ DX, R11
	MOVQ DI, DX
	NEGQ DX
	ANDQ $63, DX
	JZ   whole
	CMPQ DX, R11
	JAE  short
	SUBQ DX, R11
	CALL copy<>(SB)
	CALL writeBack<>(SB)
	ADDQ DX, DI
	ADDQ DX, SI

whole:
	MOVQ R11, DX
	ANDQ $63, DX
	SHRQ $6, R11
	JZ   tail

line:
	MOVOU  0(SI), X0
	MOVOU  16(SI), X1
	MOVOU  32(SI), X2
	MOVOU  48(SI), X3
	MOVNTO X0, 0(DI)
	MOVNTO X1, 16(DI)
	MOVNTO X2, 32(DI)
	MOVNTO X3, 48(DI)
	ADDQ   $64, SI
	ADDQ   $64, DI
	DECQ   R11
	JNZ    line

tail:
	CALL copy<>(SB)
	CALL writeBack<>(SB)
	RET

// Not even the head's line is filled: any streamBytes must work.
short:
	MOVQ R11, DX
	CALL copy<>(SB)
	CALL writeBack<>(SB)
	RET

// func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL subleaf+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET
