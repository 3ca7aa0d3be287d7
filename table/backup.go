package table

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// A backup is a stream of frames:
//
//	magic, 8 bytes
//	frames: kind 1 byte | payload size, uvarint | payload | CRC32C of all three
//	  'M' the metadata record, once, first
//	  'E' entries: key size uvarint | value size uvarint | key | value, repeated
//	  'Z' the end: count of entries uvarint | CRC32C of all frames' checksums
//
// Entries come in the order of their hashes, so the same snapshot always gives
// the same bytes. A stream that is cut off or changed anywhere is refused.
var backupMagic = [8]byte{'P', 'M', 'T', 'B', 'A', 'K', '0', '1'}

const (
	frameMetadata = 'M'
	frameEntries  = 'E'
	frameEnd      = 'Z'

	frameBytes = 256 << 10 // a frame ends behind the entry that passes this
	// No frame that Backup writes is larger than this: one entry over the size.
	maxFrameBytes = frameBytes + layout.MaxKeyBytes + layout.MaxValueBytes + 64
)

// ErrBadBackup: a stream is not a backup, or was cut off or changed.
var ErrBadBackup = errors.New("not an intact backup")

// Backup writes the table as it stands at one instant to w; writers go on
// meanwhile. Restore makes a table of it. A table that is opened read-only can be
// backed up while no process writes it, else the error is ErrLocked.
func (t *Table) Backup(w io.Writer) error {
	if t.pool.ReadOnly() {
		return t.backupUnwritten(w)
	}
	s, err := t.Snapshot()
	if err != nil {
		return err
	}
	return errors.Join(s.Backup(w), s.Close())
}

// Backup writes the snapshot to w: the same bytes each time.
func (s *Snapshot) Backup(w io.Writer) error {
	meta, err := s.Metadata()
	if err != nil {
		return err
	}
	return writeBackup(w, meta, s.All(), s.Err)
}

// backupUnwritten is Backup of a table that nobody may be writing: a reader has no
// snapshot, and what changes beneath it is of no single instant.
func (t *Table) backupUnwritten(w io.Writer) error {
	unwritten := func() error {
		if t.pool.BesideWriter() || t.writerBegan() {
			return fmt.Errorf("%w: a backup needs the file to itself, or the writer's own Backup", ErrLocked)
		}
		return nil
	}
	if err := unwritten(); err != nil {
		return err
	}
	meta, err := t.Metadata()
	if err != nil {
		return err
	}
	return writeBackup(w, meta, t.All(), func() error { return errors.Join(t.Err(), unwritten()) })
}

// writeBackup writes a stream. failed is asked behind the last entry, before the
// end is written: what it returns leaves a stream that Restore refuses.
func writeBackup(w io.Writer, meta []byte, all iter.Seq2[[]byte, []byte], failed func() error) error {
	f := frameWriter{w: bufio.NewWriterSize(w, 64<<10)}
	if _, err := f.w.Write(backupMagic[:]); err != nil {
		return err
	}
	if err := f.write(frameMetadata, meta); err != nil {
		return err
	}
	var payload []byte
	count := uint64(0)
	for key, value := range all {
		payload = binary.AppendUvarint(payload, uint64(len(key)))
		payload = binary.AppendUvarint(payload, uint64(len(value)))
		payload = append(append(payload, key...), value...)
		count++
		if len(payload) >= frameBytes {
			if err := f.write(frameEntries, payload); err != nil {
				return err
			}
			payload = payload[:0]
		}
	}
	if err := failed(); err != nil {
		return err
	}
	if len(payload) > 0 {
		if err := f.write(frameEntries, payload); err != nil {
			return err
		}
	}
	end := binary.LittleEndian.AppendUint32(binary.AppendUvarint(nil, count), f.sum)
	if err := f.write(frameEnd, end); err != nil {
		return err
	}
	return f.w.Flush()
}

// frameWriter writes frames, and sums their checksums up.
type frameWriter struct {
	w   *bufio.Writer
	sum uint32
}

func (f *frameWriter) write(kind byte, payload []byte) error {
	head := binary.AppendUvarint([]byte{kind}, uint64(len(payload)))
	crc := crc32.Update(crc32.Update(0, layout.Castagnoli, head), layout.Castagnoli, payload)
	tail := binary.LittleEndian.AppendUint32(nil, crc)
	f.sum = crc32.Update(f.sum, layout.Castagnoli, tail)
	for _, b := range [][]byte{head, payload, tail} {
		if _, err := f.w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// Restore makes a table at path of a backup stream. (Its method of the same name
// replaces what a table holds.) It refuses a path that exists
// (fs.ErrExist), and a stream that is not whole (ErrBadBackup): the table appears
// under its name only when all of it is there, durable and closed.
func Restore(r io.Reader, path string, opts *Options) error {
	if _, err := os.Lstat(path); err == nil {
		return &os.PathError{Op: "restore", Path: path, Err: fs.ErrExist}
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	o.Durability, o.MustCreate, o.ReadOnly = OnSync, true, false
	var random [8]byte
	_, _ = rand.Read(random[:])
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+hex.EncodeToString(random[:])+".tmp")
	t, err := Open(temp, &o)
	if err != nil {
		return err
	}
	err = errors.Join(t.loadNew(r), t.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("restore %s: %w", path, err), os.Remove(temp))
	}
	return pmem.Publish(temp, path)
}

// loadNew stores all that a backup stream holds in a new table.
func (t *Table) loadNew(r io.Reader) error {
	meta, err := t.load(r)
	if err != nil || len(meta) == 0 {
		return err
	}
	b := NewBatch()
	b.SetMetadata(meta)
	return t.Apply(b)
}

// load stores the entries of a backup stream, and returns its metadata.
func (t *Table) load(r io.Reader) (meta []byte, err error) {
	defer runtime.KeepAlive(t)
	f := frameReader{r: bufio.NewReaderSize(r, 64<<10)}
	var magic [8]byte
	_, err = io.ReadFull(f.r, magic[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	if err != nil || magic != backupMagic {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrBadBackup)
	}
	count := uint64(0)
	for {
		before := f.sum
		kind, payload, err := f.read()
		if err != nil {
			return nil, err
		}
		switch kind {
		case frameMetadata:
			meta = bytes.Clone(payload)
		case frameEntries:
			var n int
			n, err = t.loadEntries(payload)
			count += uint64(n)
		case frameEnd:
			return meta, checkEnd(payload, count, before, f.r)
		default:
			err = fmt.Errorf("%w: a frame of unknown kind %q", ErrBadBackup, kind)
		}
		if err != nil {
			return nil, err
		}
	}
}

// loadEntries stores the entries of one frame.
func (t *Table) loadEntries(b []byte) (int, error) {
	var keys, values [][]byte
	for len(b) > 0 {
		k, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, fmt.Errorf("%w: a key size is cut off", ErrBadBackup)
		}
		v, m := binary.Uvarint(b[n:])
		if m <= 0 || k > layout.MaxKeyBytes || v > layout.MaxValueBytes || uint64(len(b)-n-m) < k+v {
			return 0, fmt.Errorf("%w: an entry runs over its frame", ErrBadBackup)
		}
		b = b[n+m:]
		keys, values = append(keys, b[:k]), append(values, b[k:k+v])
		b = b[k+v:]
	}
	return len(keys), t.PutMany(keys, values)
}

// checkEnd compares the last frame with what came before it.
func checkEnd(payload []byte, count uint64, sum uint32, r io.Reader) error {
	n, size := binary.Uvarint(payload)
	if size <= 0 || len(payload) != size+4 || n != count || binary.LittleEndian.Uint32(payload[size:]) != sum {
		return fmt.Errorf("%w: it says %d entries, %d came", ErrBadBackup, n, count)
	}
	if extra, _ := r.Read(make([]byte, 1)); extra > 0 {
		return fmt.Errorf("%w: there is more behind its end", ErrBadBackup)
	}
	return nil
}

// frameReader reads frames and checks them.
type frameReader struct {
	r   *bufio.Reader
	sum uint32
	buf bytes.Buffer
}

// read returns the next frame; the payload is valid until the next call. Memory
// is taken as bytes come, not as the frame's size says.
func (f *frameReader) read() (kind byte, payload []byte, err error) {
	cut := func(err error) error {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: it is cut off", ErrBadBackup)
		}
		return err
	}
	kind, err = f.r.ReadByte()
	if err != nil {
		return 0, nil, cut(err)
	}
	size, err := f.readSize()
	if err != nil {
		return 0, nil, cut(err)
	}
	if size > maxFrameBytes {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", ErrBadBackup, size)
	}
	f.buf.Reset()
	if _, err := io.CopyN(&f.buf, f.r, int64(size)); err != nil {
		return 0, nil, cut(err)
	}
	var tail [4]byte
	if _, err := io.ReadFull(f.r, tail[:]); err != nil {
		return 0, nil, cut(err)
	}
	head := binary.AppendUvarint([]byte{kind}, size)
	crc := crc32.Update(crc32.Update(0, layout.Castagnoli, head), layout.Castagnoli, f.buf.Bytes())
	if binary.LittleEndian.Uint32(tail[:]) != crc {
		return 0, nil, fmt.Errorf("%w: a frame's checksum is wrong", ErrBadBackup)
	}
	f.sum = crc32.Update(f.sum, layout.Castagnoli, tail[:])
	return kind, f.buf.Bytes(), nil
}

// readSize reads an uvarint; one that does not end is a size that no frame has.
// (Of binary.ReadUvarint's errors one could not tell the reader's from its own.)
func (f *frameReader) readSize() (size uint64, err error) {
	for shift := 0; shift < 63; shift += 7 {
		b, err := f.r.ReadByte()
		if err != nil {
			return 0, err
		}
		size |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return size, nil
		}
	}
	return maxFrameBytes + 1, nil
}
