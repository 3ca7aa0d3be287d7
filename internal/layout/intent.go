package layout

// The intent record makes several one-word stores one: it is durable before the
// first of them is visible, and redone at open if it is still there.
//
//	word 0: number of the intent
//	word 1: bits 0-31 count of stores, 0 for none | 32-63 CRC32C
//	from IntentStores: pairs of words, offset and new word
//
// The checksum covers word 0, the count and the pairs.
const (
	IntentNumber = 0
	IntentCount  = 8
	IntentStores = LineBytes
)

// IntentStore is one store of an intent.
type IntentStore struct{ Offset, Word uint64 }

// MaxIntentStores is how many stores an intent record of the geometry holds.
func (g Geometry) MaxIntentStores() int { return (g.IntentBytes - IntentStores) / 16 }

// IntentCountWord encodes word 1.
func IntentCountWord(number uint64, stores []IntentStore) uint64 {
	crc := wordsCRC(number, uint64(len(stores)))
	for _, s := range stores {
		crc = wordsCRC(uint64(crc), s.Offset, s.Word)
	}
	return uint64(len(stores)) | uint64(crc)<<32
}
