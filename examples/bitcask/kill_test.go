//go:build unix

package bitcask_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"

	"pmemtable/examples/bitcask"
	"pmemtable/internal/killtest"
)

// The failure looked for here: after kill -9 an acknowledged write is missing, a deleted
// key is back, or the store does not open. A child writes, and merges all the while;
// the parent kills it at a random write, and opens. All rounds use the same directory.

const (
	killKeys = 3000
	killAcks = 20_000 // at most, in a round
)

func TestMain(m *testing.M) { killtest.Main(m, writeForever) }

func killOpen(dir string) (*bitcask.Store, error) {
	return bitcask.Open(dir, &bitcask.Options{MaxFileBytes: 50_000})
}

// killOp is operation i of a round: a key, and its value, or a deletion.
func killOp(round, i int) (k int, value string) {
	r := rand.New(rand.NewPCG(uint64(round), uint64(i)))
	k = r.IntN(killKeys)
	if r.IntN(4) == 0 {
		return k, ""
	}
	return k, fmt.Sprintf("round %d operation %d", round, i)
}

// writeForever is the child: where is the round and the directory.
func writeForever(where string) error {
	var round int
	var dir string
	if _, err := fmt.Sscanf(where, "%d %s", &round, &dir); err != nil {
		return err
	}
	s, err := killOpen(dir)
	if err != nil {
		return err
	}
	go func() {
		for {
			if err := s.Merge(); err != nil {
				fmt.Fprintln(os.Stderr, "merge:", err)
				os.Exit(1)
			}
		}
	}()
	for i := 0; ; i++ {
		k, value := killOp(round, i)
		if value == "" {
			err = s.Delete(key(k))
		} else {
			err = s.Put(key(k), []byte(value))
		}
		if err == nil {
			err = killtest.Acknowledge([]byte{'.'})
		}
		if err != nil {
			return err
		}
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	dir, model := filepath.Join(t.TempDir(), "store"), map[string]string{}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	for round := range rounds {
		acked := killtest.Run(t, fmt.Sprint(round, " ", dir), 1+random.IntN(killAcks), 0, 1, func([]byte) {})
		for i := range acked {
			apply(model, round, i)
		}
		s, err := killOpen(dir)
		must.NoError(t, err)
		must.False(t, s.Opening().Rebuilt)
		// The operation under way when it was killed may have happened.
		k, value := killOp(round, acked)
		got, err := s.Get(key(k))
		if value == "" && errors.Is(err, bitcask.ErrNotFound) || value != "" && string(got) == value {
			apply(model, round, acked)
		}
		requireSame(t, s, model, killKeys)
		must.NoError(t, s.Close())
	}
}

func apply(model map[string]string, round, i int) {
	k, value := killOp(round, i)
	if value == "" {
		delete(model, string(key(k)))
	} else {
		model[string(key(k))] = value
	}
}
