// Package crashtest finds out what a crash can do to a persistent structure.
//
// A structure on persistent memory, or in a mapped file, is right only if it is
// right after a crash at any moment, and what is on the medium then is not what
// the program stored: of the stores since the last fence any may be missing, and
// their order means nothing. This package plays that. It records one run of a
// program, makes every image of the medium that a crash of that run could leave
// behind, and asks the program's own recovery about each.
//
//	Tracer    a pmem.Hook: performs and logs every store, write-back, drain and sync
//	Trace     its log; Crashes makes images of it, Lint looks for useless and missing
//	          flushes, Audit for stores that went around the hook, Mutants plants bugs
//	Workload  the program: begins and acknowledges operations on a medium
//	Oracle    judges an image: is everything there that was acknowledged?
//	Suite     runs a Workload, crashes it everywhere, and crashes recovery too
//
// The medium is anything whose stores reach the Tracer: a pool opened with
// pmem.Options.Hook, or a Memory of this package, which is a plain slice for
// structures that bring their own format.
//
// # Models
//
// A model says what may be missing after a crash.
//
//   - X86: each cache line by itself is as it was after any number of the stores
//     to it, but not before what some goroutine wrote back and then drained.
//   - ARM: the same for each aligned 8-byte word: stores to one line have no order.
//   - PageCache: each aligned 8-byte word has any value that it had since the last
//     sync that succeeded; what was stored while that sync ran is not covered.
//   - Kill: the process dies and the machine goes on: all that was stored is there.
//
// An aligned word is never torn. Of a copy of many bytes the words are taken in
// ascending order on X86; ARM covers every other order. A drain by another
// goroutine, an atomic instruction or a lock guarantees nothing, though some
// processors would.
//
// # What is left out
//
// The images of a crash between two points are among those of the later one, as
// long as nothing becomes guaranteed or acknowledged in between. So Crashes stops
// only before each drain or sync that guarantees something, after each
// acknowledgement and at the end. Images that were judged with the same operations
// acknowledged are not judged again.
//
// A judge that says what it read (Crash.Read; Memory.Reads knows) is not asked about
// images that differ only elsewhere: only what was read is branched on, and where that
// leads to other places, these. Of what nobody read the oldest and the newest are tried,
// to find out a judge that says so wrongly.
//
// Up to Bound.Images images of a point all are made; beyond it the extremes, everything
// that is one line (word) or two away from them, every moment of the log, and seeded
// samples: Figures tells at how many points that was so.
package crashtest
