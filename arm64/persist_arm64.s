//go:build !purego

#include "textflag.h"

// How a line is written back; in R4.
#define CACHE  0	// not at all: the caches survive a power failure
#define CVAC_  1	// to the point of coherency
#define CVAP_  2	// to the point of persistence
#define CVADP_ 3	// to the point of deep persistence

// Operands of DMB and DSB.
#define OSH   $0x3
#define ISHLD $0x9
#define ISH   $0xb
#define SY    $0xf

// The entry points differ in one constant and share a body by a tail jump.

// func PersistCVADP(vector unsafe.Pointer, count, lineSizeBytes uintptr)
TEXT ·PersistCVADP(SB), NOSPLIT, $0-24
	MOVD vector+0(FP), R0
	MOVD count+8(FP), R1
	MOVD lineSizeBytes+16(FP), R3
	MOVD $CVADP_, R4
	JMP  persist<>(SB)

// func PersistCVAP(vector unsafe.Pointer, count, lineSizeBytes uintptr)
TEXT ·PersistCVAP(SB), NOSPLIT, $0-24
	MOVD vector+0(FP), R0
	MOVD count+8(FP), R1
	MOVD lineSizeBytes+16(FP), R3
	MOVD $CVAP_, R4
	JMP  persist<>(SB)

// func PersistCVAC(vector unsafe.Pointer, count, lineSizeBytes uintptr)
TEXT ·PersistCVAC(SB), NOSPLIT, $0-24
	MOVD vector+0(FP), R0
	MOVD count+8(FP), R1
	MOVD lineSizeBytes+16(FP), R3
	MOVD $CVAC_, R4
	JMP  persist<>(SB)

// func PersistCache(vector unsafe.Pointer, count, lineSizeBytes uintptr)
TEXT ·PersistCache(SB), NOSPLIT, $0-24
	MOVD vector+0(FP), R0
	MOVD count+8(FP), R1
	MOVD lineSizeBytes+16(FP), R3
	MOVD $CACHE, R4
	JMP  persist<>(SB)

// func WriteBackCVADP(p unsafe.Pointer, n, lineSizeBytes uintptr)
TEXT ·WriteBackCVADP(SB), NOSPLIT, $0-24
	MOVD p+0(FP), R5
	MOVD n+8(FP), R7
	MOVD lineSizeBytes+16(FP), R3
	MOVD $CVADP_, R4
	DMB  OSH	// as in persist
	JMP  writeBack<>(SB)

// func WriteBackCVAP(p unsafe.Pointer, n, lineSizeBytes uintptr)
TEXT ·WriteBackCVAP(SB), NOSPLIT, $0-24
	MOVD p+0(FP), R5
	MOVD n+8(FP), R7
	MOVD lineSizeBytes+16(FP), R3
	MOVD $CVAP_, R4
	DMB  OSH
	JMP  writeBack<>(SB)

// func WriteBackCVAC(p unsafe.Pointer, n, lineSizeBytes uintptr)
TEXT ·WriteBackCVAC(SB), NOSPLIT, $0-24
	MOVD p+0(FP), R5
	MOVD n+8(FP), R7
	MOVD lineSizeBytes+16(FP), R3
	MOVD $CVAC_, R4
	DMB  OSH
	JMP  writeBack<>(SB)

// func Drain()
TEXT ·Drain(SB), NOSPLIT, $0-0
	DSB SY
	RET

// func LoadFence()
TEXT ·LoadFence(SB), NOSPLIT, $0-0
	DMB ISHLD
	RET

// func Fence()
TEXT ·Fence(SB), NOSPLIT, $0-0
	DMB ISH
	RET

// persist performs R1 entries at R0 with lines of R3 bytes, writing back by
// R4, then waits.
//
// The architecture itself orders a DC after this core's earlier accesses to
// the same line, so the copies of this call, each followed by the DCs of its
// own lines, need no barrier. The DMB before the first DC is for what that
// rule leaves out, earlier writes to non-cacheable memory, as in Linux. It is
// a full one and outer shareable: DMB ST is not defined to order cache
// maintenance, and non-cacheable memory is outer shareable. DSB SY at the end
// waits for the stores and for every DC, in the full system: the point of
// persistence may lie outside the cores' shareability domain.
TEXT persist<>(SB), NOSPLIT, $0-0
	DMB OSH
	CBZ R1, drain

entry:
	LDP (R0), (R5, R6)
	MOVD 16(R0), R7
	CBZ R6, lines
	BL  copy<>(SB)

lines:
	BL  writeBack<>(SB)
	ADD $24, R0
	SUB $1, R1
	CBNZ R1, entry

drain:
	DSB SY
	RET

// writeBack writes back by R4 the lines of R3 bytes that [R5, R5+R7) touches.
// Clobbers R8, R9.
TEXT writeBack<>(SB), NOSPLIT, $0-0
	CBZ R7, done
	ADD R5, R7, R9
	SUB $1, R3, R8
	BIC R8, R5, R8
	CMP $CVAP_, R4
	BEQ cvap
	CMP $CVADP_, R4
	BEQ cvadp
	CMP $CVAC_, R4
	BEQ cvac

done:
	RET

cvap:
	DC  CVAP, R8
	ADD R3, R8
	CMP R9, R8
	BLO cvap
	RET

cvadp:
	DC  CVADP, R8
	ADD R3, R8
	CMP R9, R8
	BLO cvadp
	RET

cvac:
	DC  CVAC, R8
	ADD R3, R8
	CMP R9, R8
	BLO cvac
	RET

// copy copies R7 bytes from R6 to R5, 16 at a time, then the rest by its
// binary digits: the 8 bytes of a word go in one store.
// Clobbers R8 to R12.
TEXT copy<>(SB), NOSPLIT, $0-0
	MOVD R5, R8
	MOVD R6, R9
	LSR  $4, R7, R10
	CBZ  R10, eight

sixteen:
	LDP.P 16(R9), (R11, R12)
	STP.P (R11, R12), 16(R8)
	SUB   $1, R10
	CBNZ  R10, sixteen

eight:
	TBZ    $3, R7, four
	MOVD.P 8(R9), R11
	MOVD.P R11, 8(R8)

four:
	TBZ     $2, R7, two
	MOVWU.P 4(R9), R11
	MOVW.P  R11, 4(R8)

two:
	TBZ     $1, R7, one
	MOVHU.P 2(R9), R11
	MOVH.P  R11, 2(R8)

one:
	TBZ   $0, R7, done
	MOVBU (R9), R11
	MOVB  R11, (R8)

done:
	RET

// func ctrEL0() uint64
TEXT ·ctrEL0(SB), NOSPLIT, $0-8
	MRS  CTR_EL0, R0
	MOVD R0, ret+0(FP)
	RET

// func isar1EL1() uint64
TEXT ·isar1EL1(SB), NOSPLIT, $0-8
	MRS  ID_AA64ISAR1_EL1, R0
	MOVD R0, ret+0(FP)
	RET

// func Prefetch(p unsafe.Pointer)
TEXT ·Prefetch(SB), NOSPLIT, $0-8
	MOVD p+0(FP), R0
	PRFM (R0), PLDL1KEEP
	RET
