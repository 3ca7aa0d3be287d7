// Package blocklog reads the log that QEMU's blklogwrites driver keeps of all that a
// guest sends to its disk, in the format of Linux' dm-log-writes, and makes of it
// the contents that the disk may have after a power cut.
package blocklog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// SectorBytes is the unit of the log. A disk writes a sector wholly or not at all.
const SectorBytes = 512

// Entry is a request that the guest's disk has completed. They stand in the order
// of completion, and a completion is logged before the guest learns of it: so what
// the guest does because of it stands behind it.
type Entry struct {
	Flush   bool
	Sector  uint64
	Sectors uint64
	Data    []byte // of a write; nil: the sectors were discarded, and read as zeros
}

const (
	magic       = 0x6a736677736872
	version     = 1
	flagFlush   = 1
	flagFUA     = 2
	flagDiscard = 4
	flagMark    = 8
	maxEntry    = 64 << 20
)

// Read reads a log that was closed in order.
func Read(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return entries, nil
}

func parse(r io.ReaderAt) ([]Entry, error) {
	head := make([]byte, SectorBytes)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, err
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(head[8*i:]) }
	if word(0) != magic || word(1) != version {
		return nil, errors.New("no log of dm-log-writes, version 1")
	}
	if size := binary.LittleEndian.Uint32(head[24:]); size != SectorBytes {
		return nil, fmt.Errorf("sectors of %d bytes", size)
	}
	count := word(2)
	var entries []Entry
	at := int64(SectorBytes)
	for uint64(len(entries)) < count {
		if _, err := r.ReadAt(head, at); err != nil {
			return nil, err
		}
		at += SectorBytes
		e := Entry{Sector: word(0), Sectors: word(1)}
		flags := word(2)
		e.Flush = flags&flagFlush != 0
		switch {
		case flags&(flagFUA|flagMark) != 0, e.Flush && e.Sectors != 0:
			return nil, fmt.Errorf("entry %d has flags %#x and %d sectors, which this reader has no use for", len(entries), flags, e.Sectors)
		case e.Sectors > maxEntry/SectorBytes:
			return nil, fmt.Errorf("entry %d has %d sectors", len(entries), e.Sectors)
		case e.Sectors > 0 && flags&flagDiscard == 0:
			e.Data = make([]byte, e.Sectors*SectorBytes)
			if _, err := r.ReadAt(e.Data, at); err != nil {
				return nil, err
			}
			at += int64(len(e.Data))
		}
		entries = append(entries, e)
	}
	return entries, nil
}
