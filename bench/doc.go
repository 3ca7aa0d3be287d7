// Package bench holds the programs that measure pmemtable. It is a module of its
// own, so that what it compares with never becomes a dependency of the library.
//
//	go run ./peers     beside the floor, Go's maps and other embedded stores
//	go run ./commit    the cost of durability on a disk, beside other stores
//	go run ./limits    100 million small entries
//	go run ./large     10 million entries: space while growing, kill -9 and reopen, reuse, GC
//	go run ./keydirs   opening examples/bitcask, its key directory in a pmemtable and in a Go map
//
// go test -bench . ./datastore measures contrib/datastore beside go-ds-leveldb.
// Build tags add peers: "peers" Pebble and Badger, which take minutes to compile,
// "lmdb" LMDB, which needs cgo. docs/performance.md says what the figures mean.
package bench
