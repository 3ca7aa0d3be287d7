// Package stores puts pmemtable and its peers behind one small interface, so that
// the same loop drives them all.
//
// Pebble and Badger are built in with the tag "peers", since compiling them takes
// minutes, and LMDB with the tag "lmdb", since it needs cgo.
package stores

import (
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Store is what is measured. All methods but Close are safe for concurrent use.
type Store interface {
	// Put stores a copy of value.
	Put(key, value []byte) error
	// Get appends a copy of the value to dst: the caller owns it, whatever others
	// do with the key meanwhile. ErrNotFound when there is none.
	Get(dst, key []byte) ([]byte, error)
	Delete(key []byte) error
	Close() error
}

// Bulk is a Store that loads many entries faster than by as many Puts.
type Bulk interface {
	PutBulk(keys, values [][]byte) error
}

// Many is a Store that takes groups of keys.
type Many interface {
	GetMany(keys [][]byte, fn func(i int, value []byte, err error))
	PutMany(keys, values [][]byte) error
}

// Snapshotter makes and returns what gives a snapshot back.
type Snapshotter interface {
	Snapshot() (release func() error, err error)
}

// Figures is a Store that tells about itself.
type Figures interface {
	Figures() map[string]float64
}

// ErrNotFound is what every Get returns for an absent key.
var ErrNotFound = errors.New("no such key")

// Sync says when a write has to be durable.
type Sync string

// The durabilities that peers have in common.
const (
	Always   Sync = "always"   // before the call returns
	Interval Sync = "interval" // within a second (pmemtable only)
	Never    Sync = "never"    // whenever the kernel likes
)

// Config says how to open a store.
type Config struct {
	Name  string
	Dir   string // of its own
	Sync  Sync
	Media string // pmemtable: "", dax, pagecache, tmpfs
	// Trust leaves out pmemtable's checks of checksums.
	Trust bool
	// SegmentBytes of pmemtable; 0: its default.
	SegmentBytes int
	// Entries that are expected.
	Entries int
	// Writers that work at the same time: bbolt's batches need to know.
	Writers int
	// IntervalOf Sync == Interval; 0: a second.
	IntervalOf time.Duration
}

type opener struct {
	open       func(Config) (Store, error)
	module     string // for the version; empty for the standard library
	persistent bool
}

var openers = map[string]opener{}

func register(name, module string, persistent bool, open func(Config) (Store, error)) {
	openers[name] = opener{open: open, module: module, persistent: persistent}
}

// Open opens or creates a store.
func Open(c Config) (Store, error) {
	o, ok := openers[c.Name]
	if !ok {
		return nil, fmt.Errorf("store %q is not built in; there are %s (build tags peers and lmdb add more)", c.Name, strings.Join(Names(), ", "))
	}
	return o.open(c)
}

// Names are the stores that are built in.
func Names() []string { return slices.Sorted(maps.Keys(openers)) }

// Has tells whether a store is built in.
func Has(name string) bool { _, ok := openers[name]; return ok }

// Persistent tells whether a store keeps its entries in files.
func Persistent(name string) bool { return openers[name].persistent }

// Versions of the modules that the stores are, by store.
func Versions() map[string]string {
	info, ok := debug.ReadBuildInfo()
	found := map[string]string{}
	if !ok {
		return found
	}
	for name, o := range openers {
		for _, dep := range info.Deps {
			if o.module != "" && dep.Path == o.module {
				found[name] = dep.Path + " " + dep.Version
			}
		}
	}
	return found
}
