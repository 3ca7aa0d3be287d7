//go:build unix

package datastore_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/stretchr/testify/require"

	"pmemtable/contrib/datastore"
	"pmemtable/table"
)

// The failure looked for here: after kill -9 some keys of a batch, or of a transaction,
// have its values and others do not; or one that was acknowledged is missing. A child
// commits one after the other, each setting the same keys to its number, and says so;
// the parent kills it at a random one. All rounds use the same file.

const (
	killEnv    = "PMEMTABLE_DATASTORE_KILL" // the file, for the child
	killKeys   = 40                         // of each batch
	killRounds = 20
	killAcks   = 200 // at most, in a round
)

func TestMain(m *testing.M) {
	if path := os.Getenv(killEnv); path != "" {
		fmt.Fprintln(os.Stderr, commitForever(context.Background(), path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func killOpen(path string) (*datastore.Datastore, error) {
	return datastore.Open(path, &table.Options{Stripes: 4, SegmentSize: 512, Durability: table.OnSync})
}

func killKey(i int) ds.Key { return ds.NewKey(fmt.Sprint("/k/", i)) }

// commitForever is the child: batch n leaves key n mod killKeys out of the file, and
// sets the others to n.
func commitForever(ctx context.Context, path string) error {
	d, err := killOpen(path)
	if err != nil {
		return err
	}
	n := uint64(0)
	if value, err := d.Get(ctx, ds.NewKey("/last")); err == nil {
		n = binary.LittleEndian.Uint64(value)
	} else if !errors.Is(err, ds.ErrNotFound) {
		return err
	}
	for {
		n++
		var w interface {
			ds.Write
			Commit(context.Context) error
		}
		if w, err = d.Batch(ctx); n%2 == 0 {
			w, err = d.NewTransaction(ctx, false)
		}
		if err != nil {
			return err
		}
		value := binary.LittleEndian.AppendUint64(nil, n)
		err := w.Put(ctx, ds.NewKey("/last"), value)
		for i := range killKeys {
			if i == int(n%killKeys) {
				err = errors.Join(err, w.Delete(ctx, killKey(i)))
			} else {
				err = errors.Join(err, w.Put(ctx, killKey(i), value))
			}
		}
		if err = errors.Join(err, w.Commit(ctx)); err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.pmt")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	known := uint64(0) // what the file holds at least
	for range killRounds {
		acked := killRound(t, path, 1+random.IntN(killAcks))
		require.Greater(t, acked, known)
		known = requireWhole(t, path, acked)
	}
}

// killRound runs a child until it has acknowledged so many batches, kills it, and returns
// the last one of which it said that it was committed.
func killRound(t *testing.T, path string, acks int) (last uint64) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), killEnv+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break // killed; a line that was cut off was not said
		}
		require.NoError(t, err)
		last, err = strconv.ParseUint(line[:len(line)-1], 10, 64)
		require.NoError(t, err)
		if acks--; acks == 0 {
			require.NoError(t, child.Process.Kill())
		}
	}
	require.ErrorContains(t, child.Wait(), "killed")
	require.NotZero(t, last)
	return last
}

// requireWhole requires that the file holds one whole batch, the last acknowledged one or
// the one after it, and returns which.
func requireWhole(t *testing.T, path string, acked uint64) uint64 {
	ctx := t.Context()
	d, err := killOpen(path)
	require.NoError(t, err)
	defer d.Close()
	value, err := d.Get(ctx, ds.NewKey("/last"))
	require.NoError(t, err)
	n := binary.LittleEndian.Uint64(value)
	require.Contains(t, []uint64{acked, acked + 1}, n)
	for i := range killKeys {
		got, err := d.Get(ctx, killKey(i))
		if i == int(n%killKeys) {
			require.ErrorIs(t, err, ds.ErrNotFound)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, value, got, "key %d of batch %d", i, n)
	}
	require.NoError(t, d.Check(ctx))
	return n
}
