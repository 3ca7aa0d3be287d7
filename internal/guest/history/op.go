// Package history knows what every writer of a session does, and what a table must
// therefore hold after a crash.
//
// The steps of a writer follow from the seed, the writer's number and the step's
// number alone. So an acknowledgement needs to name no more than these, and the
// content of a table tells which prefix of the steps it holds.
package history

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// Keys is how many keys a writer has to itself.
const Keys = 160

// hotKeys of them take half of the steps, so that some are overwritten all the time.
const hotKeys = 12

// Op is one step of a writer: a Put of a value of a given length, or a Delete.
type Op struct {
	Delete bool
	Key    int
	Bytes  int
}

// OpAt is step n of a writer; steps count from 1.
func OpAt(seed uint64, writer int, n uint64) Op {
	r := rand.New(rand.NewPCG(seed+uint64(writer)<<48, n))
	op := Op{Key: r.IntN(Keys)}
	if r.IntN(2) == 0 {
		op.Key = r.IntN(hotKeys)
	}
	switch x := r.IntN(1000); {
	case x < 200:
		op.Delete = true
	case x < 940:
		op.Bytes = stampBytes + r.IntN(200)
	case x < 998:
		op.Bytes = stampBytes + r.IntN(6000) // over a page
	default:
		op.Bytes = stampBytes + 60_000 + r.IntN(20_000) // over a chunk
	}
	return op
}

// Stamp identifies a write: a step, and the boot in which it was made. Without the
// boot, a value that came back from before a cut could not be told from the one
// that the same step writes again.
type Stamp struct {
	Boot uint32
	N    uint64
}

const stampBytes = 16

// Key is the key of a writer's number.
func Key(writer, key int) []byte { return fmt.Appendf(nil, "w%d/%06d", writer, key) }

// ParseKey is the inverse of Key.
func ParseKey(b []byte) (writer, key int, err error) {
	if _, err := fmt.Sscanf(string(b), "w%d/%d", &writer, &key); err != nil || !bytes.Equal(b, Key(writer, key)) {
		return 0, 0, fmt.Errorf("key %q was never written", b)
	}
	return writer, key, nil
}

// Value is what a write stores: its stamp, and bytes that depend on the stamp and
// on their place, so that a value mixed of two shows.
func Value(seed uint64, writer int, s Stamp, length int) []byte {
	b := make([]byte, length+8)
	binary.LittleEndian.PutUint32(b, uint32(writer))
	binary.LittleEndian.PutUint32(b[4:], s.Boot)
	binary.LittleEndian.PutUint64(b[8:], s.N)
	x := seed ^ s.N*0x9e3779b97f4a7c15 ^ uint64(writer)<<32 ^ uint64(s.Boot)
	for at := stampBytes; at < length; at += 8 {
		x = x*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint64(b[at:], x)
	}
	return b[:length]
}

// ParseValue checks that a value is one that the writer wrote under this key, whole.
func ParseValue(seed uint64, writer, key int, b []byte) (Stamp, error) {
	if len(b) < stampBytes {
		return Stamp{}, fmt.Errorf("key %s: a value of %d bytes was never written", Key(writer, key), len(b))
	}
	s := Stamp{binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:])}
	op := OpAt(seed, writer, s.N)
	if op.Delete || op.Key != key || !bytes.Equal(b, Value(seed, writer, s, op.Bytes)) {
		return s, fmt.Errorf("key %s: the value that claims to be of step %d of boot %d is not what that wrote", Key(writer, key), s.N, s.Boot)
	}
	return s, nil
}
