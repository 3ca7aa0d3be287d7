package pmem

import "pmemtable/internal/layout"

// maxUnsettled bounds how often a read-only pool reads again what a writer was changing.
const maxUnsettled = 100

// Settled calls read, which a read-only pool is to find something out by, after it has
// taken notice of the newest session record. An error counts only if no session began,
// or was recorded, and no commit was made meanwhile: else what read looked at may have
// been another's by then, and it is called again. A pool for writing has its fixed parts
// for itself: read is called once.
func (p *Pool) Settled(read func() error) error {
	for n := 0; ; n++ {
		seen := p.recordsSum()
		err := p.readPrevious()
		if err == nil {
			err = read()
		}
		if err == nil || !p.readOnly || n == maxUnsettled || p.recordsSum() == seen {
			return err
		}
	}
}

// recordsSum is a checksum of the session records and the superblock slots.
func (p *Pool) recordsSum() (sum [4]uint32) {
	if !p.readOnly {
		return sum
	}
	for i := range sum {
		at, n := p.regions.Session[i&1], layout.PageBytes
		if i >= 2 {
			at, n = p.regions.Superblock[i&1], p.geometry.SuperblockBytes()
		}
		sum[i] = layout.ExtentChecksum(p.Speculative(at, n))
	}
	return sum
}

// readPrevious reads the newest session record, for an open.
func (p *Pool) readPrevious() (err error) {
	if p.previous, err = p.readSession(); err != nil {
		return err
	}
	// The record of an earlier session says that the writer is still choosing its root.
	s := &p.previous
	lives := p.readOnly && s.Clean == 0 && s.Poisoned == 0 && p.SameFile() && p.SameBoot() && p.backend.writerLive()
	// As long as a session takes up its log, that and the committed root are the truth.
	p.beside = lives && s.Replaying == 0
	p.settled = s.Generation
	if lives && s.Replaying != 0 {
		p.settled--
	}
	return nil
}

// SettledGeneration is that of the last session whose record tells a read-only open
// which root is the truth: not yet that of a live writer which is taking up the log.
func (p *Pool) SettledGeneration() uint64 { return p.settled }
