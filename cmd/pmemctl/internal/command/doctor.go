package command

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pmemtable/cmd/pmemctl/internal/host"
	"pmemtable/flush"
	"pmemtable/pmem"
	"pmemtable/table"
)

// doctorDocument is what doctor --json prints.
type doctorDocument struct {
	SchemaVersion int    `json:"schema_version"`
	Path          string `json:"path"`
	host.Facts
	FlushMethod     string             `json:"flush_method"`
	FlushComplete   bool               `json:"flush_complete"` // a drained line is durable
	CachePersistent bool               `json:"cache_is_persistent"`
	Medium          string             `json:"medium"` // empty: refused
	Refused         string             `json:"refused,omitempty"`
	MapSync         bool               `json:"map_sync"`
	Survives        []survivesDocument `json:"survives"`
	PutNanoseconds  int64              `json:"durable_put_ns"` // the median
	Advice          []string           `json:"advice"`
}

func doctorVerb() verb {
	return verb{
		usage: "doctor [FILE|DIR]",
		short: "Say what this machine and file system give a table",
		long: `Say what the machine and the file system that holds FILE or DIR (default: the
working directory) give a table: whether it is persistent memory mapped with DAX
and MAP_SYNC, which instruction writes cache lines back and whether the caches
survive a power failure (eADR), huge pages, and what an acknowledged write
survives there with each durability, in plain words.

For this a small table is made there, written to a few times, and removed; FILE
itself is not touched. The exit code is 1 if no table can be kept there.`,
		example: `  pmemctl doctor
  pmemctl doctor /mnt/pmem
  pmemctl doctor --json debs.pmt | jq .survives`,
		run: func(c *call) error {
			path := "."
			if len(c.args) == 1 {
				path = c.args[0]
			}
			d, err := examine(c.ctx, path)
			if err != nil {
				return err
			}
			err = c.answer(d, func(out *output) { printDoctor(out, d) })
			if err == nil && d.Refused != "" {
				return &codedError{code: ExitCondition}
			}
			return err
		},
	}
}

// examine makes a scratch table beside what path names.
func examine(ctx context.Context, path string) (doctorDocument, error) {
	dir := path
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return doctorDocument{}, err
	case !info.IsDir():
		dir = filepath.Dir(path)
	}
	d := doctorDocument{
		SchemaVersion: schemaVersion, Path: path, Facts: host.Look(dir),
		FlushMethod: flush.Method(), FlushComplete: flush.Complete(), CachePersistent: flush.CacheIsPersistent(),
		Survives: []survivesDocument{},
	}
	scratch := filepath.Join(dir, ".pmemctl-doctor-"+rand.Text()[:12]+".pmt")
	t, err := table.Open(scratch, &table.Options{MustCreate: true, Stripes: 1, MaxSize: 1 << 30})
	if errors.Is(err, pmem.ErrMedium) {
		d.Refused = strings.TrimPrefix(err.Error(), "open "+scratch+": ")
		d.Advice = advice(d)
		return d, nil
	}
	if err != nil {
		return d, asDirectory(err, scratch, dir)
	}
	d.measure(ctx, t)
	err = errors.Join(t.Close(), os.Remove(scratch))
	d.Advice = advice(d)
	return d, errors.Join(ctx.Err(), err)
}

// asDirectory speaks of the directory that the user named, not of the scratch file.
func asDirectory(err error, scratch, dir string) error {
	var path *os.PathError
	if errors.As(err, &path) && path.Path == scratch {
		return &os.PathError{Op: path.Op, Path: dir, Err: path.Err}
	}
	return err
}

const doctorPuts = 21

// measure notes what the scratch table says of itself, and how long a durable write
// takes.
func (d *doctorDocument) measure(ctx context.Context, t *table.Table) {
	s := t.Stats()
	d.Medium, d.MapSync = s.Medium.String(), s.Medium == pmem.DAX
	for _, durability := range durabilities {
		d.Survives = append(d.Survives, survivesDocument{durability.String(), s.SurvivesWith(durability)})
	}
	var took []time.Duration
	for i := range doctorPuts {
		begin := time.Now()
		if ctx.Err() != nil || t.Put(fmt.Append(nil, "key ", i), make([]byte, 100)) != nil {
			return
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	d.PutNanoseconds = took[len(took)/2].Nanoseconds()
}

// reservesNothing are the file systems on which room that was allocated may be gone
// when it is written to.
var reservesNothing = []string{"btrfs", "zfs", "bcachefs"}

// advice is what follows from the facts, in words.
func advice(d doctorDocument) []string {
	says := []string{}
	add := func(format string, args ...any) { says = append(says, fmt.Sprintf(format, args...)) }
	switch d.Medium {
	case "":
		add("No table can be kept here: %s.", d.Refused)
	case pmem.DAX.String():
		add("This is persistent memory: every acknowledged write is durable, without a system call, whatever the durability.")
		if d.CachePersistent {
			add("The caches survive a power failure: no line needs to be written back.")
		}
	case pmem.Tmpfs.String():
		add("Files here lie in memory: they survive every crash of a program and are gone after a restart of the machine. Where that is too little, use a directory on a disk.")
	default:
		add("This is an ordinary file in the page cache: a crash of a program loses nothing. Against power loss, durability Always waits for the disk with each write, or group of writes, and Interval or OnSync do not.")
		if strings.Contains(d.MountOptions, "dax") {
			add("The mount options speak of dax, and yet MAP_SYNC was refused: the device, or this directory, does not give it.")
		}
	}
	if !d.FlushComplete && d.Medium != "" {
		add("This processor has no instruction that makes a cache line durable: a medium here is never taken for persistent memory.")
	}
	if slices.Contains(reservesNothing, d.FileSystem) {
		add("%s reserves nothing for a file that is to be overwritten: when the disk is full, a write to memory may fail with a signal.", d.FileSystem)
	}
	if d.Medium == pmem.Tmpfs.String() && !strings.Contains(d.MountOptions, "huge=") {
		add("Mounted with huge=within_size, large tables here would have fewer misses of the TLB.")
	}
	if d.System != "" && !strings.HasPrefix(d.System, "linux/") {
		add("Promises are made for Linux; see docs/durability.md for what holds on %s.", strings.Split(d.System, "/")[0])
	}
	return says
}

func printDoctor(out *output, d doctorDocument) {
	out.line("path", "%s", d.Path)
	kernel := ""
	if d.Kernel != "" {
		kernel = ", kernel " + d.Kernel
	}
	out.line("machine", "%s%s, %s, pages of %s", d.System, kernel, plural(d.Processors, "processor"), bytesText(int64(d.PageSizeBytes)))
	if d.FileSystem != "" {
		out.line("file system", "%s at %s, %s free", d.FileSystem, d.Mount, bytesText(d.FreeBytes))
		out.line("mounted", "%s", d.MountOptions)
	}
	if d.Refused != "" {
		out.line("medium", "refused: %s", d.Refused)
	} else {
		out.line("medium", "%s", d.Medium)
	}
	out.line("MAP_SYNC", "%s", yes(d.MapSync, "in force: stores reach the medium without the page cache", "refused: no DAX here"))
	out.line("write-back", "%s; %s", d.FlushMethod, yes(d.FlushComplete, "a line that is drained is durable on persistent memory", "it does not reach the medium"))
	out.line("eADR", "%s", yes(d.CachePersistent, "the caches survive a power failure", "no: the caches do not survive a power failure, or there is no persistent memory"))
	if d.HugePages != "" {
		out.line("huge pages", "%s for anonymous memory, %s for tmpfs", d.HugePages, yes(d.SharedHugePages != "", d.SharedHugePages, "unknown"))
	}
	if d.PutNanoseconds > 0 {
		out.line("durable put", "%s, the median of %d", time.Duration(d.PutNanoseconds).Round(time.Duration(max(1, d.PutNanoseconds/100))), doctorPuts)
	}
	if len(d.Survives) > 0 {
		out.line("survives", "what a write survives once it is acknowledged:")
		for _, s := range d.Survives {
			name, _, _ := strings.Cut(s.Durability, "=")
			out.line("  "+name, "%s", s.Survives)
		}
	}
	_ = out.WriteByte('\n')
	for _, text := range d.Advice {
		for _, line := range folded(text, 80) {
			out.show([]byte(line))
			_ = out.WriteByte('\n')
		}
	}
}

// folded breaks text into lines between words.
func folded(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

func yes(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}
