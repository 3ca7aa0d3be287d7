package pmem

import "pmemtable/internal/layout"

// WriteIntent makes the stores durable as one decision, before any of them is
// visible: from here on an open that keeps the working root redoes them. The
// caller holds what excludes another intent. len(stores) is bounded by
// Geometry.MaxIntentStores.
func (p *Pool) WriteIntent(number uint64, stores []layout.IntentStore) {
	at := p.regions.Intent
	p.Store(at+layout.IntentNumber, number)
	for i, s := range stores {
		p.Store(at+layout.IntentStores+uint64(i)*16, s.Offset)
		p.Store(at+layout.IntentStores+uint64(i)*16+8, s.Word)
	}
	p.Store(at+layout.IntentCount, layout.IntentCountWord(number, stores))
	p.Persist(p.IntentRange(len(stores)))
}

// IntentRange is what an intent record of so many stores takes.
func (p *Pool) IntentRange(stores int) Range {
	return Range{p.regions.Intent, layout.IntentStores + stores*16}
}

// ClearIntent removes the intent durably: its stores are.
func (p *Pool) ClearIntent() {
	p.Store(p.regions.Intent+layout.IntentCount, 0)
	p.PersistWord(p.regions.Intent + layout.IntentCount)
}

// PendingIntent returns the stores of an intact intent record, nil if there is
// none. A torn record is none: its stores have not begun. A kill may have left the record
// stored and not drained: whoever acts on it makes IntentRange durable first.
func (p *Pool) PendingIntent() []layout.IntentStore {
	at := p.regions.Intent
	word := p.Load(at + layout.IntentCount)
	count := int(uint32(word))
	if count == 0 || count > p.geometry.MaxIntentStores() {
		return nil
	}
	stores := make([]layout.IntentStore, count)
	for i := range stores {
		stores[i] = layout.IntentStore{
			Offset: p.Load(at + layout.IntentStores + uint64(i)*16),
			Word:   p.Load(at + layout.IntentStores + uint64(i)*16 + 8),
		}
	}
	if layout.IntentCountWord(p.Load(at+layout.IntentNumber), stores) != word {
		return nil
	}
	return stores
}
