// Package bitcask is a log-structured store of a few hundred lines whose key directory
// is a pmemtable, so that it opens in milliseconds however many keys it has. The idea of
// such a store, and the name, are from "Bitcask, a log-structured hash table for fast
// key/value data" (Sheehy and Smith, 2010), which keeps its key directory in memory and
// has to read every key to open.
//
// # Files
//
//	00000001.log     records in the order in which they were written; the last log is
//	00000002.log     appended to, the others never change
//	00000003.merged  the live records of older files, copied by Merge
//	keydir.pmt       key -> {file, offset, size, sequence} of its newest record
//	MERGE            names of files that a Merge has replaced, while it removes them
//
// A record is {crc32c, sequence, key size, kind, value size, key, value}; its sequence
// number is never used again, and a deletion is a record, too.
//
// # The order of things
//
// The rule that all else follows from: an entry enters the key directory only when the
// bytes that it points to are durable. So a write goes
//
//  1. to the end of the log, by write(2). Now kill -9 does not lose it.
//  2. into a small map in memory, of what the key directory does not know yet. Lookups
//     ask it first.
//  3. when that map has 2,000 changes: the log is synced, and then all of them, with the
//     position in the log up to which they reach as metadata, become one Batch of the
//     table, which is all or nothing across any crash.
//
// What a crash leaves at which point:
//
//   - Before or within 1: a torn record at the end of the log, which was not acknowledged.
//     Open cuts it off.
//   - Between 1 and 3: the key directory is behind the log, by what it says itself: Open
//     reads the log from the recorded position on, at most 2,000 changes, back into the
//     small map.
//   - Within 3: the Batch happened, with its position, or did not, with the one before.
//   - Power loss, after 3: the table, opened with Interval(1s), may be that of up to a
//     second ago, with the position of then. Open reads a second's worth of log. Of the
//     log itself what was not synced may be gone, but by the rule nothing points there.
//   - So the key directory is never ahead of the log. If it is all the same (log files
//     were restored from an older copy) Open says so and changes nothing.
//
// The key directory holds nothing that the log does not: without its file, Open makes it
// anew of all records, in time that grows with them.
//
// # Merge
//
//  1. The log is flushed, as in 3 above, and goes on in a new file. All files before it
//     are the inputs; they do not change any more.
//  2. The records that the key directory points to are copied to files that are called
//     .tmp until they are synced, then .merged. A crash leaves .tmp files, which Open
//     removes, or copies that nothing points to, which the next Merge drops.
//  3. The key directory is pointed to the copies, where the sequence number says that it
//     still means the same record, and synced. A crash leaves it pointing to some of both,
//     which all exist.
//  4. The names of the inputs are written to MERGE, by rename, and the inputs removed. A
//     crash behind the rename ends with Open removing them: all or none, as deletions are
//     not copied and must not go before what they delete.
package bitcask
