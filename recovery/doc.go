// Package recovery decides which root of a pool is the truth after an open,
// rebuilds the free space that nothing persists, and checks a table.
//
// Open's own work does not grow with the table: Choose reads the session record
// and the two superblock slots, Begin puts the working root in order and begins
// the new session. Free space is found by Mark, in the background, over the trees
// as they stood at open; the table serves meanwhile.
//
// Everything here reads the file as hostile: each offset is checked before it is
// followed, each count before it sizes anything, and each walk is bounded.
package recovery
