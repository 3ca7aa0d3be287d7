package pmem

import (
	"os"

	"pmemtable/internal/layout"
)

// readSession returns the valid session record with the higher sequence. The one
// of a session that began was durable before the control page named its
// generation: if only an older one is left, it is damaged, and the older one would
// take back what was acknowledged since.
func (p *Pool) readSession() (Session, error) {
	generation := p.Load(p.regions.Control + layout.ControlGeneration) // before the records: a writer may begin
	var newest Session
	for _, at := range p.regions.Session {
		if s, ok := layout.DecodeSession(p.Speculative(at, layout.PageBytes)); ok && s.Sequence > newest.Sequence {
			newest = s
		}
	}
	if newest.Sequence == 0 {
		return newest, p.Corrupt("session record", p.regions.Session[0], "neither of the two is intact")
	}
	if newest.Generation < generation {
		return newest, p.Corrupt("session record", p.regions.Session[newest.Sequence&1],
			"session %d began, and the record of session %d is the last that is intact", generation, newest.Generation)
	}
	return newest, nil
}

// Previous is the session record that the open found.
func (p *Pool) Previous() Session { return p.previous }

// SameFile tells whether the previous session was on this very file, not on one
// that this is a copy of; SameBoot whether the machine has been up since.
func (p *Pool) SameFile() bool {
	s := &p.previous
	return s.Inode == p.ident.inode && s.Dev == p.ident.dev &&
		s.BirthSec == p.ident.birthSec && s.BirthNsec == p.ident.birthNsec
}

// SameBoot tells whether the machine has been up since the previous session began.
func (p *Pool) SameBoot() bool {
	return p.previous.BootID == p.ident.bootID && p.ident.bootID != [16]byte{}
}

// BeginSession publishes this writer's session record and makes it durable. Root,
// epoch and intent must be in order before: from here on a kill finds the new
// session. On persistent memory and tmpfs, whose truth after a crash is the
// working root, floor voids the superblock slots, which would only pin space.
func (p *Pool) BeginSession(floor uint64) error { return p.beginSession(Session{Floor: floor}) }

// BeginReplay is BeginSession where the truth stays the committed root, with the log
// behind it up to the position logEnd, until EndReplay.
func (p *Pool) BeginReplay(floor, logEnd uint64) error {
	return p.beginSession(Session{Floor: floor, Replaying: 1, LogEnd: logEnd})
}

func (p *Pool) beginSession(s Session) error {
	p.sessionMu.Lock()
	defer p.sessionMu.Unlock()
	s.Generation = p.previous.Generation + 1
	s.Sequence = p.previous.Sequence
	s.BootID = p.ident.bootID
	s.Inode, s.Dev = p.ident.inode, p.ident.dev
	s.BirthSec, s.BirthNsec = p.ident.birthSec, p.ident.birthNsec
	s.PID = uint32(os.Getpid())
	s.Medium = uint8(p.medium)
	if p.forced {
		s.Forced = 1
	}
	p.session = s
	// A kill may have left the record that the open found stored but not durable.
	// The new one overwrites the other, so this one must be durable first.
	found := p.regions.Session[p.session.Sequence&1^1]
	p.Persist(Range{found, layout.PageBytes})
	if err := p.syncRange(found, layout.PageBytes); err != nil {
		return err
	}
	if err := p.voidTornSession(); err != nil {
		return err
	}
	if err := p.writeSession(); err != nil {
		return err
	}
	p.beginCounters()
	p.Store(p.regions.Control+layout.ControlReplaying, uint64(s.Replaying))
	p.Store(p.regions.Control+layout.ControlSize, p.size.Load())
	p.Store(p.regions.Control+layout.ControlGeneration, p.session.Generation)
	p.opening = nil
	p.space.expectSweep()
	return nil
}

// EndReplay records that the working root is the truth of this session from now on.
// What the log held has been committed.
func (p *Pool) EndReplay(floor uint64) error {
	p.sessionMu.Lock()
	defer p.sessionMu.Unlock()
	p.session.Replaying, p.session.LogEnd, p.session.Floor = 0, 0, floor
	if err := p.writeSession(); err != nil {
		return err
	}
	p.Store(p.regions.Control+layout.ControlReplaying, 0)
	return nil
}

// voidTornSession makes a record that a power loss cut off one that no later stores can
// complete: the next is written over it, has the same number, and may be cut off too.
// What it said of the session that it was to begin need not be true of the one that
// follows, on another medium say. Without its checksum it is none.
func (p *Pool) voidTornSession() error {
	page := p.regions.Session[p.session.Sequence&1]
	at := page + layout.SessionSum
	if _, whole := layout.DecodeSession(p.Bytes(page, layout.PageBytes)); whole || p.Load(at) == 0 {
		return nil
	}
	p.Store(at, 0)
	p.PersistWord(at)
	return p.syncRange(page, layout.PageBytes)
}

// writeSession writes p.session to the slot that does not hold the newest record,
// so that a torn write leaves the old one.
func (p *Pool) writeSession() error {
	p.session.Sequence++
	at := p.regions.Session[p.session.Sequence&1^1]
	page := zeros(layout.PageBytes)
	defer scratch.Put(page)
	p.session.Encode(*page)
	p.Copy(at, *page)
	p.Persist(Range{at, layout.PageBytes})
	return p.syncRange(at, layout.PageBytes)
}

// MarkClean records that the committed root with the given sequence is the truth,
// so that no older one can pass for it should its slot be damaged. The caller has
// committed, and stores nothing afterwards.
func (p *Pool) MarkClean(sequence uint64) error {
	p.sessionMu.Lock()
	defer p.sessionMu.Unlock()
	p.session.Clean, p.session.LastGood = 1, sequence
	return p.writeSession()
}

// MarkPoisoned records that a sync failed and that the superblock with sequence
// lastGood, with the log behind it up to the position logEnd, is the last state
// known to be durable; 0 if nothing is known of the newest one that the session found:
// then the newest that is whole counts, since nothing was reused that an older one needs.
func (p *Pool) MarkPoisoned(lastGood, logEnd uint64) error {
	p.sessionMu.Lock()
	defer p.sessionMu.Unlock()
	p.session.Poisoned, p.session.LastGood, p.session.LogEnd = 1, lastGood, logEnd
	return p.writeSession()
}

// Generation is this session's number; for a read-only pool that of the last one.
func (p *Pool) Generation() uint64 {
	p.sessionMu.Lock()
	defer p.sessionMu.Unlock()
	if p.session.Generation == 0 {
		return p.previous.Generation
	}
	return p.session.Generation
}
