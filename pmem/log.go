package pmem

// The log is a ring in a region of its own, a hole in the file until somebody needs
// it. What lies in it, and which part of it counts, is the table's business.

// GrowLog makes the bytes from fromBytes to toBytes of the log's region fit to be
// stored to: their space is reserved, and zeros are there, so that a later sync of a
// few of its pages has no metadata of the file system to write. It may make system
// calls. ErrFull if the medium has no room.
func (p *Pool) GrowLog(fromBytes, toBytes uint64) error {
	at := p.regions.Log + fromBytes
	if err := p.backend.reserve(at, int(toBytes-fromBytes)); err != nil {
		if isNoSpace(err) {
			err = &FullError{Path: p.path, SizeBytes: int(toBytes - fromBytes), Reason: err}
		}
		return err
	}
	piece := zeros(int(min(toBytes-fromBytes, 64<<10)))
	defer scratch.Put(piece)
	for end := p.regions.Log + toBytes; at < end; at += uint64(len(*piece)) {
		p.Copy(at, *piece)
	}
	return nil
}

// DropLog gives the first bytes of the log's region back to the file system, when
// nothing in them counts any more. It does what it can: an error costs space only.
func (p *Pool) DropLog(sizeBytes uint64) {
	if sizeBytes == 0 {
		return
	}
	if err := p.backend.punch(p.regions.Log, int(sizeBytes)); err != nil {
		p.logger.Info("the log's space stays in use", "path", p.path, "err", err)
	}
}

// AppendLog stores frames to the ring at a position of the log and makes them
// durable, and nothing else that is dirty. Before it returns, a crash may leave any
// part of them: their checksums tell.
func (p *Pool) AppendLog(position uint64, frames []byte, ringBytes uint64) error {
	first := position % ringBytes
	n := min(uint64(len(frames)), ringBytes-first)
	for _, piece := range []struct {
		at    uint64
		bytes []byte
	}{{first, frames[:n]}, {0, frames[n:]}} {
		if len(piece.bytes) == 0 {
			continue
		}
		if err := p.write(p.regions.Log+piece.at, piece.bytes); err != nil {
			return err
		}
	}
	return nil
}

// LogRing is the ring of a log, for reading; nil if it does not lie in the file.
func (p *Pool) LogRing(ringBytes uint64) []byte {
	if ringBytes > uint64(p.geometry.LogBytes) {
		return nil
	}
	return p.Bytes(p.regions.Log, int(ringBytes))
}
