// Package pmem is a pool: a memory-mapped file with a header, two superblock
// slots, a working root pointer and an arena of blocks, on whatever medium the
// file lies.
//
// # Stores
//
// Every store to the medium goes through Store and Copy, and becomes durable on
// a medium of persistent memory through Persist, on the page cache through Sync.
// A Hook set at open sees, and itself performs, each of them: so the program
// that users run is the one that crash tests run. Reads never meet the hook.
//
// # Space
//
// What no root reaches is free. The allocator's state is volatile; after an open
// it is unknown until recovery has marked what the roots reach (as Ralloc does,
// Cai et al., ISMM 2020), and until then blocks come from chunks that the file
// did not have before. So a pool on which no session has begun (recovery.Begin, then
// Sweep) is for reading and storing: Alloc has an error, unless GiveUpSweep says that
// all of the file stays as it is.
//
// # Concurrency
//
// Load, Line, Bytes, Store, Copy, Persist, Alloc and Free are safe for
// concurrent use; who may store where is the caller's to order. Nothing in this
// package looks into the table's objects.
package pmem
