package command

import "pmemtable/table"

// pendingDocument is what a log holds that the next open for writing takes up.
type pendingDocument struct {
	Generation uint64 `json:"generation"` // of the session that wrote it
	RingBytes  int64  `json:"ring_bytes"`
	Frames     int64  `json:"frames"`
	Changes    int64  `json:"changes"`
	Bytes      int64  `json:"bytes"`
}

// newPendingDocument is nil for no log.
func newPendingDocument(l table.PendingLog) *pendingDocument {
	if l.Generation == 0 {
		return nil
	}
	return &pendingDocument{l.Generation, l.RingBytes, int64(l.Frames), int64(l.Changes), l.Bytes}
}

func printPending(out *output, l table.PendingLog) { newPendingDocument(l).print(out) }

func (d *pendingDocument) print(out *output) {
	if d == nil {
		return
	}
	out.line("log", "%s in %s (%s of a ring of %s), of session %d: the next open for writing takes them up",
		plural(int(d.Changes), "change"), plural(int(d.Frames), "frame"), bytesText(d.Bytes), bytesText(d.RingBytes), d.Generation)
}
