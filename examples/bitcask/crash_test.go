package bitcask_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shoenig/test/must"

	"pmemtable/examples/bitcask"
)

// Crashes are made here by composing the files that one leaves; kill_test.go kills
// processes. A directory is a map from names to contents.

type files map[string]string

func read(t testing.TB, dir string) files {
	all := files{}
	must.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[e.Name()] = string(b)
		return err
	}))
	return all
}

func write(t testing.TB, all files) (dir string) {
	dir = t.TempDir()
	for name, content := range all {
		must.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	return dir
}

const keydirName = "keydir.pmt"

// with returns the files and those of others with a suffix, without those named.
func (f files) with(others files, suffixes []string, without ...string) files {
	all := maps.Clone(f)
	for name, content := range others {
		for _, suffix := range suffixes {
			if strings.HasSuffix(name, suffix) {
				all[name] = content
			}
		}
	}
	for _, name := range without {
		delete(all, name)
	}
	return all
}

// check opens a directory that holds these files, with and without its key directory,
// and requires the model of it, also after a Merge and another open.
func (f files) check(t *testing.T, name string, model map[string]string, keys int) {
	for _, without := range []string{"", keydirName} {
		dir := write(t, f.with(nil, nil, without))
		for range 2 {
			s, err := bitcask.Open(dir, kinds["table"])
			must.NoError(t, err, must.Sprintf("%s without %q", name, without))
			requireSame(t, s, model, keys)
			must.NoError(t, s.Merge())
			requireSame(t, s, model, keys)
			must.NoError(t, s.Put(key(0), []byte(model[string(key(0))])))
			must.NoError(t, s.Close())
		}
		leftovers, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
		must.NoError(t, err)
		must.SliceEmpty(t, leftovers)
	}
}

// TestMergeCrash composes what a crash at each step of a Merge leaves.
func TestMergeCrash(t *testing.T) {
	t.Parallel()
	dir, model := t.TempDir(), map[string]string{}
	s := open(t, dir, kinds["table"])
	const keys = 100
	for i := range 3 * keys {
		k, v := key(i%keys), strings.Repeat("v", 50)+fmt.Sprint(i)
		must.NoError(t, s.Put(k, []byte(v)))
		model[string(k)] = v
	}
	must.NoError(t, s.Merge()) // so that there are merged inputs, too
	for i := 1; i < keys; i += 3 {
		must.NoError(t, s.Delete(key(i))) // which must not come back
		delete(model, string(key(i)))
		must.NoError(t, s.Put(key(i-1), []byte("new")))
		model[string(key(i-1))] = "new"
	}
	must.NoError(t, s.Close())
	before := read(t, dir)
	s = open(t, dir, kinds["table"])
	must.NoError(t, s.Merge())
	must.NoError(t, s.Close())
	after := read(t, dir)

	var inputs []string
	for name := range before {
		if _, kept := after[name]; !kept {
			inputs = append(inputs, name)
		}
	}
	slices.Sort(inputs)
	must.GreaterEq(t, 3, len(inputs))
	merged := []string{".merged"}
	both := after.with(before, append([]string{".log"}, merged...))
	listed := both.with(files{"MERGE": strings.Join(inputs, "\n")}, []string{"MERGE"})

	before.check(t, "before", model, keys)
	unfinished := files{}
	for name, content := range after {
		if strings.HasSuffix(name, ".merged") {
			unfinished[name+".tmp"] = content[:len(content)/2]
		}
	}
	before.with(unfinished, []string{".tmp"}).check(t, "in a copy", model, keys)
	before.with(after, merged).check(t, "copied", model, keys)
	before.with(after, append([]string{".log"}, merged...)).check(t, "copied, with the new log", model, keys)
	both.check(t, "relocated", model, keys)
	both.with(files{"MERGE.tmp": inputs[0]}, []string{".tmp"}).check(t, "in the list", model, keys)
	for n := range len(inputs) + 1 {
		listed.with(nil, nil, inputs[len(inputs)-n:]...).check(t, fmt.Sprint(n, " removed from the end"), model, keys)
	}
	after.check(t, "after", model, keys)
}

// tornImage is what kill -9 leaves of a store with n keys, and where their records end in
// the log. The first half was flushed, as by a Close.
func tornImage(t *testing.T, n int) (image files, ends []int) {
	dir := t.TempDir()
	o := &bitcask.Options{}
	s := open(t, dir, o)
	log := filepath.Join(dir, "00000001.log")
	for i := range n {
		if i == n/2 {
			must.NoError(t, s.Close())
			s = open(t, dir, o)
		}
		must.NoError(t, s.Put(key(i), []byte("value")))
		info, err := os.Stat(log)
		must.NoError(t, err)
		ends = append(ends, int(info.Size()))
	}
	return read(t, dir), ends
}

// TestTornTail cuts the log off at every byte behind what was flushed, and puts there
// what a file system may.
func TestTornTail(t *testing.T) {
	t.Parallel()
	const n = 6
	image, ends := tornImage(t, n)
	log := image["00000001.log"]
	// A copy of a table that was open is checked whole by each open; one that was closed
	// and knows half is as good here.
	dir := write(t, image.with(files{"00000001.log": log[:ends[n/2-1]]}, []string{".log"}))
	must.NoError(t, open(t, dir, nil).Close())
	image[keydirName] = read(t, dir)[keydirName]

	for cut := ends[n/2-1]; cut <= len(log); cut++ {
		whole := 0
		for whole < n && ends[whole] <= cut {
			whole++
		}
		model := map[string]string{}
		for i := range whole {
			model[string(key(i))] = "value"
		}
		tails := []string{"", strings.Repeat("\x00", 50), strings.Repeat("\xff", 50)}
		if testing.Short() {
			tails = tails[cut%3:][:1]
		}
		for _, tail := range tails {
			dir := write(t, image.with(files{"00000001.log": log[:cut] + tail}, []string{".log"}))
			s := open(t, dir, nil)
			requireSame(t, s, model, n)
			must.Eq(t, int64(cut+len(tail)-ends[whole-1]), s.Opening().TornBytes)
			must.Eq(t, whole-n/2, s.Opening().Replayed)
			must.NoError(t, s.Put(key(n), []byte("on")))
			must.NoError(t, s.Close())
			s = open(t, dir, nil)
			must.Zero(t, s.Opening().TornBytes)
			_, err := s.Get(key(n))
			must.NoError(t, err)
			must.NoError(t, s.Close())
		}
	}
}

// TestKeydirBehind: power loss may take the table back to an older commit.
func TestKeydirBehind(t *testing.T) {
	t.Parallel()
	dir, model := t.TempDir(), map[string]string{}
	var old string
	for round := range 5 {
		s := open(t, dir, kinds["table"])
		for i := range 100 {
			v := fmt.Sprint(round, " ", i)
			must.NoError(t, s.Put(key(i), []byte(v)))
			model[string(key(i))] = v
		}
		must.NoError(t, s.Delete(key(round)))
		delete(model, string(key(round)))
		must.NoError(t, s.Close())
		if round == 1 {
			old = read(t, dir)[keydirName]
		}
	}
	image := read(t, dir)
	image[keydirName] = old
	s := open(t, write(t, image), kinds["table"])
	must.Eq(t, bitcask.Opening{Replayed: 303}, s.Opening())
	requireSame(t, s, model, 100)
}

// TestKeydirAhead: log files of an older copy. That is said, and nothing changed; without
// the key directory the older copy opens.
func TestKeydirAhead(t *testing.T) {
	t.Parallel()
	image, ends := tornImage(t, 6)
	short := image.with(files{"00000001.log": image["00000001.log"][:ends[1]]}, []string{".log"})
	dir := write(t, short)
	_, err := bitcask.Open(dir, nil)
	must.ErrorIs(t, err, bitcask.ErrCorrupt)
	must.Eq(t, short["00000001.log"], read(t, dir)["00000001.log"])
	must.NoError(t, os.Remove(filepath.Join(dir, keydirName)))
	s := open(t, dir, nil)
	must.Eq(t, bitcask.Opening{Replayed: 2, Rebuilt: true}, s.Opening())
	requireSame(t, s, map[string]string{"key 0": "value", "key 1": "value"}, 6)
}

// TestTornInTheMiddle: only the last log may end in a torn record.
func TestTornInTheMiddle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, kinds["table"])
	for i := range 200 {
		must.NoError(t, s.Put(key(i), make([]byte, 50)))
	}
	must.NoError(t, s.Close())
	image := read(t, dir)
	first := image["00000001.log"]
	image["00000001.log"] = first[:len(first)-1]
	delete(image, keydirName)
	_, err := bitcask.Open(write(t, image), kinds["table"])
	must.ErrorIs(t, err, bitcask.ErrCorrupt)
	must.ErrorContains(t, err, "00000001.log")

	image["MERGE"] = "../precious\n"
	_, err = bitcask.Open(write(t, image), kinds["table"])
	must.ErrorIs(t, err, bitcask.ErrCorrupt)
}
