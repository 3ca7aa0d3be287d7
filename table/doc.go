// Package table is a concurrent hash table for []byte keys and values that lives
// in a memory-mapped file. Many goroutines read and write it at memory speed, no
// entry is on the Go heap, and when the process or the machine dies it opens
// again in milliseconds, at any size, with every acknowledged write there.
//
//	t, err := table.Open("users.pmt", nil)
//	...
//	err = t.Put([]byte("ada"), []byte("1815"))
//	value, err := t.Get([]byte("ada"))
//	err = t.Close()
//
// # Words
//
//   - pool: the mapped file (package pmem).
//   - stripe: the keys whose hash begins with the same bits. It is an extendible
//     hash table of its own, with its own lock.
//   - directory: an array of words, one for each value of the next hash bits, that
//     refer to segments.
//   - segment: a header line and bucket lines; 16 KiB.
//   - bucket line: eight slots, 64 bytes.
//   - slot: a word that refers to a record and holds some bits of its hash, the tag.
//   - record: one entry. It never changes once it is linked.
//   - epoch: a number that every segment, directory and record is born with; a cut
//     raises it and so freezes all that was born before.
//   - checkpoint: a cut whose tree is made durable and committed by a superblock.
//   - write back, drain: make cache lines durable, and wait until they are.
//
// A table of inline entries has no records: keys and values are words, and lie in the
// slots (inline.go). Index is the face for it.
//
// # Reading
//
// A lookup takes no lock and writes no memory that another processor reads. It
// walks from the stripe's root to the record, copies the value, and then checks
// that the stripe's version has not moved, which it does before any block of it
// is reused (lookup.go, read.go). View, and a reader that lost that check too
// often, publish a pin instead (pins.go). The version check is a sequence lock's,
// for reuse of memory only: a change of an entry does not move the version.
//
// # Writing
//
// A write fills a record aside and links it by one 8-byte store under the
// stripe's lock (mutate.go). It stores into a segment only if the segment was born
// in the current epoch; otherwise it copies the segment first. A full window
// splits its segment (split.go). Copies, splits and their directories are built
// aside and committed by one store each (structure.go). What was unlinked is
// reused when no root, reader or pin can need it (space.go).
//
// # Growth
//
// Nothing is ever rehashed as a whole: a split moves 2,000 slot words, without
// reading the records. Segments that fill at the same rate would split at the
// same time, so the first ones are given different thresholds, and their
// descendants keep the phase.
//
// # Durability
//
// On persistent memory each write is written back and drained before it returns,
// and no reader answers from one that is not durable yet. On a page cache, writes
// become durable by checkpoints, which concurrent writers share (commit.go). See
// docs/durability.md for the promises.
//
// # Cost, units, errors
//
// With n entries: calls for one key are O(1), amortized over splits for those that
// insert, and O(size) in the value; GetMany, PutMany and Apply so for each key. Open,
// Snapshot, Clear and Len do not depend on n (Open but for a file that nothing vouches
// for, Len until an unclean open has counted); Sync depends on what was written since the
// last commit, Stats on the number of chunks. All, Scan to the end, Backup, Check, Survey,
// Compact and Repair are O(n). The Go heap holds no entry,
// only some bits for each block; Check and Repair need more while they run.
//
// All sizes are in bytes, and names of figures say so.
//
// Any call may return ErrClosed, ErrCorrupt (a *CorruptError with the place), and what
// the operating system says, wrapped; any write ErrReadOnly, ErrFull, ErrTooLarge and
// ErrPoisoned; any lookup ErrTooLarge for a key that no table can hold. Errors are
// compared with errors.Is. What else a method may return its text says. After an error
// nothing was changed, except after ErrPoisoned, whose outcome is unknown, and by
// PutMany, which may have stored some.
//
// # Where the ideas come from
//
// Extendible hashing: Fagin et al., 1979; on persistent memory with segments and
// bucket lines: CCEH (Nam et al., FAST 2019) and Dash (Lu et al., VLDB 2020).
// Rebuilding the allocator from what is reachable: Ralloc (Cai et al., ISMM 2020).
// Two superblocks and copy on write: LMDB and bbolt after them. Durable before
// visible by a marked word: link-and-persist (David et al., ATC 2018). Hazard
// pointers: Michael, 2004.
package table
