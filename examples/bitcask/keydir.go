package bitcask

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"pmemtable/table"
)

// entry says where the newest record of a key is.
type entry struct {
	file     uint32
	size     uint32 // of the whole record
	offset   int64
	sequence uint64
}

const entryBytes = 24

func (e entry) encode() []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, entryBytes), e.file)
	b = binary.LittleEndian.AppendUint32(b, e.size)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.offset))
	return binary.LittleEndian.AppendUint64(b, e.sequence)
}

func decodeEntry(b []byte) (e entry, err error) {
	if len(b) != entryBytes {
		return e, fmt.Errorf("%w: an entry of the key directory has %d bytes", ErrCorrupt, len(b))
	}
	return entry{
		file:     binary.LittleEndian.Uint32(b),
		size:     binary.LittleEndian.Uint32(b[4:]),
		offset:   int64(binary.LittleEndian.Uint64(b[8:])),
		sequence: binary.LittleEndian.Uint64(b[16:]),
	}, nil
}

// position is a place in the log, and the highest sequence number before it. The zero
// value is no position. It is stored as an entry of size 0.
type position entry

// change is what becomes of a key.
type change struct {
	entry
	deleted bool
}

// keydir is a key directory. Lookups may run beside one change.
type keydir interface {
	// load returns the position up to which the directory knows the log.
	load() (position, error)
	get(key []byte) (e entry, ok bool, err error)
	// apply makes all changes, at most maxPending, and records the position, or nothing
	// across any crash. The zero position records none.
	apply(changes map[string]change, at position) error
	// sync makes all that was applied durable.
	sync() error
	close() error
}

// tableKeydir is a key directory in a pmemtable.
type tableKeydir struct {
	table *table.Table
	batch *table.Batch
}

func openTableKeydir(dir string) (*tableKeydir, error) {
	t, err := table.Open(filepath.Join(dir, "keydir.pmt"), &table.Options{Durability: table.Interval(time.Second)})
	if errors.Is(err, table.ErrCorrupt) {
		err = fmt.Errorf("%w (without this file the key directory is made anew)", err)
	}
	if err != nil {
		return nil, err
	}
	return &tableKeydir{table: t, batch: table.NewBatch()}, nil
}

// load clears what an Open that was killed while it made the directory anew left: it has
// no position.
func (k *tableKeydir) load() (position, error) {
	meta, err := k.table.Metadata()
	if err != nil {
		return position{}, err
	}
	if len(meta) == 0 {
		return position{}, k.table.Clear()
	}
	e, err := decodeEntry(meta)
	return position(e), err
}

func (k *tableKeydir) get(key []byte) (entry, bool, error) {
	var buf [entryBytes]byte
	b, err := k.table.AppendGet(buf[:0], key)
	if errors.Is(err, table.ErrNotFound) {
		return entry{}, false, nil
	}
	if err != nil {
		return entry{}, false, err
	}
	e, err := decodeEntry(b)
	return e, err == nil, err
}

func (k *tableKeydir) apply(changes map[string]change, at position) error {
	k.batch.Reset()
	for key, c := range changes {
		if c.deleted {
			k.batch.Delete([]byte(key))
		} else {
			k.batch.Put([]byte(key), c.encode())
		}
	}
	if at != (position{}) {
		k.batch.SetMetadata(entry(at).encode())
	}
	return k.table.Apply(k.batch)
}

func (k *tableKeydir) sync() error { return k.table.Sync() }

func (k *tableKeydir) close() error { return k.table.Close() }
