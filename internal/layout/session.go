package layout

import (
	"encoding/binary"
	"hash/crc32"
	"unsafe"
)

// Session says who had the pool open for writing, on what, and how that ended.
// Its two slots lie on pages of their own; the valid one with the higher
// Sequence counts, and a new one goes to the other.
type Session struct {
	Sequence   uint64 // of the record: grows with every write of one
	Generation uint64 // of the session: grows with every open for writing
	BootID     [16]byte
	Inode      uint64
	Dev        uint64 // 0 where the device number is anonymous and so means nothing later
	BirthSec   int64
	BirthNsec  uint32
	PID        uint32
	Medium     uint8 // a Medium
	Forced     uint8 // 1: Options.Media said so, the kernel did not
	Clean      uint8 // 1: closed in order, the committed root is the truth
	Poisoned   uint8 // 1: a sync failed, LastGood is the truth
	Replaying  uint8 // 1: the truth is still the committed root and the log behind it
	_          [3]byte
	LastGood   uint64 // superblock sequence, when poisoned or clean: the one that counts; poisoned and 0: the newest
	Floor      uint64 // superblock slots with a lower sequence are void
	LogEnd     uint64 // position, when poisoned or replaying: frames from here on do not count
}

const (
	_ = uint(unsafe.Sizeof(Session{}) - 96)
	_ = uint(96 - unsafe.Sizeof(Session{}))
)

// SessionSum is where in a record's page the word with its checksum lies.
const SessionSum = crcAt &^ (WordBytes - 1)

// Medium is what a session's file lay on.
type Medium uint8

// The media. Their numbers are part of the format.
const (
	MediumUnknown   Medium = 0
	MediumDAX       Medium = 1
	MediumPageCache Medium = 2
	MediumTmpfs     Medium = 3
)

// Encode writes the record into page, a zeroed page.
func (s *Session) Encode(page []byte) {
	copy(page, inMemory(s))
	binary.LittleEndian.PutUint32(page[crcAt:], crc32.Checksum(page[:crcAt], Castagnoli))
}

// DecodeSession returns false for a torn or damaged record.
func DecodeSession(page []byte) (s Session, ok bool) {
	if crc32.Checksum(page[:crcAt], Castagnoli) != binary.LittleEndian.Uint32(page[crcAt:]) {
		return s, false
	}
	copy(inMemory(&s), page)
	return s, s.Sequence != 0
}
