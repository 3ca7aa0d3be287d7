// Package layout is the one place that defines how a pmemtable file looks.
//
// Everything is little-endian and used in place; nothing in the file is a
// pointer, every link is an offset from the start of the file, and zero means
// none. docs/format.md draws the same structures and says which store commits
// each change.
//
//	header page | session A | session B | control page | intent record |
//	versions | root area A | root area B | superblock A | superblock B |
//	arena: chunks, some of which hold chunk descriptors
//
// The table's objects lie in blocks of the arena:
//
//	control page -> root area -> stripe root -> directory -> segment -> record
//
// Words that writers change while readers look (stripe roots, directory words,
// slots, the overflow link of a segment) are aligned 8-byte words, and each
// change of the table commits by the store of exactly one of them.
package layout
