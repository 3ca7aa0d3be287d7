package inspect

import (
	"fmt"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// log describes the frames behind the newest superblock slot that has a log.
func (f *File) log() (*Object, error) {
	slot := f.loggedSlot()
	r := f.geometry.Regions()
	if slot == nil {
		return nil, addressf("no superblock names a log: the table was closed, or has none")
	}
	ring := f.pool.LogRing(slot.Log.RingBytes)
	if ring == nil {
		return nil, addressf("its ring of %d bytes at %#x is not in the file", slot.Log.RingBytes, r.Log)
	}
	o := &Object{Kind: "log", At: Hex(r.Log), SizeBytes: len(ring), Intact: true, Fields: []Field{}}
	c := cursor{Object: o}
	c.note("behind commit %d, of session %d, from position %d on", slot.Sequence, slot.Log.Generation, slot.Log.Start)
	seed, at := f.pool.Header().HashSeed, slot.Log.Start
	for at-slot.Log.Start < slot.Log.RingBytes {
		frame, ok := layout.ReadFrame(ring, seed, slot.Log.Generation, at)
		if !ok {
			break
		}
		f.frame(&c, ring, frame)
		at = frame.Next
	}
	c.note("no whole frame begins at position %d", at)
	if !f.pool.BesideWriter() {
		if _, err := recovery.MeasureLog(f.pool, slot.Log, recovery.EndOfLog(f.pool, slot.Log)); err != nil {
			c.Intact = false
			c.note("%v", err)
		}
	}
	return o, nil
}

// loggedSlot is the newest slot that says where a log goes on.
func (f *File) loggedSlot() *pmem.Slot {
	slots := f.pool.Slots()
	for i := range slots {
		if slots[i].Log.Generation != 0 {
			return &slots[i]
		}
	}
	return nil
}

// frame adds the head of a frame, and those of its changes.
func (f *File) frame(c *cursor, ring []byte, frame layout.Frame) {
	place := func(position uint64) Hex { return c.At + Hex(position%uint64(len(ring))) }
	add := func(position uint64, b []byte, name, meaning string) {
		c.Fields = append(c.Fields, Field{place(position), b, name, meaning})
	}
	first := ""
	if frame.First {
		first = ", the first of a flush"
	}
	add(frame.Position, layout.CopyRing(ring, frame.Position, layout.LogFrameBytes), "frame",
		fmt.Sprintf("position %d, %d bytes of changes%s", frame.Position, len(frame.Payload), first))
	changes, ok := recovery.LogChanges(frame.Payload)
	if !ok {
		c.Intact = false
		add(frame.Position+layout.LogFrameBytes, frame.Payload, "changes", "DAMAGED")
	}
	at := frame.Position + layout.LogFrameBytes
	for _, change := range changes {
		head := layout.CopyRing(ring, at, layout.LogChangeBytes)
		meaning := fmt.Sprintf("key of %d bytes", len(change.Key))
		if change.Kind != layout.LogDelete {
			meaning = fmt.Sprintf("record born in epoch %d: key of %d, value of %d bytes", change.Record.Birth, len(change.Key), len(change.Record.Value))
		}
		add(at, head, "  "+changeKinds[change.Kind], meaning)
		at += layout.LogChangeBytes + uint64(len(change.Bytes))
	}
}
