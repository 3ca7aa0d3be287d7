package crashtest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
)

// images are the first words of every image of a trace, as text.
func images(t *testing.T, trace *crashtest.Trace, model crashtest.Model, words int) (out []string) {
	_, err := trace.Crashes(model, crashtest.Bound{}, nil, func(c *crashtest.Crash) error {
		text := ""
		for i := range words {
			text += fmt.Sprint(crashtest.NewMemory(c.Image, nil).Load(uint64(i) * 8))
		}
		out = append(out, text)
		return nil
	})
	require.NoError(t, err)
	slices.Sort(out)
	return slices.Compact(out)
}

func line(off uint64) pmem.Range { return pmem.Range{Offset: off, Bytes: 8} }

func TestModelsMakeExactlyTheirImages(t *testing.T) {
	tracer := crashtest.NewTracer(make([]byte, 128))
	m := crashtest.NewMemory(tracer.Image(), tracer)
	m.Store(0, 1)
	m.Store(8, 1)
	m.Store(0, 2)
	trace := tracer.Trace()
	require.Equal(t, []string{"00", "10", "11", "21"}, images(t, trace, crashtest.X86, 2))
	require.Equal(t, []string{"00", "01", "10", "11", "20", "21"}, images(t, trace, crashtest.ARM, 2))
	require.Equal(t, []string{"00", "01", "10", "11", "20", "21"}, images(t, trace, crashtest.PageCache, 2))
	require.Equal(t, []string{"00", "10", "11", "21"}, images(t, trace, crashtest.Kill, 2))
	require.Equal(t, []uint64{0, 8}, trace.Unguaranteed(crashtest.X86))

	m.Persist(line(0))
	m.Store(8, 3)
	after := tracer.Trace().From(len(trace.Events) + 2)
	require.Equal(t, []string{"21", "23"}, images(t, after, crashtest.X86, 2))
	require.Equal(t, []string{"21", "23"}, images(t, after, crashtest.ARM, 2))
	require.Len(t, images(t, after, crashtest.PageCache, 2), 9, "a write-back guarantees nothing there")

	require.NoError(t, m.Sync())
	require.Equal(t, []string{"23"}, images(t, tracer.Trace().From(len(tracer.Trace().Events)), crashtest.PageCache, 2))
}

func TestOnlyTheDrainOfTheSameGoroutineCounts(t *testing.T) {
	tracer := crashtest.NewTracer(make([]byte, 64))
	m := crashtest.NewMemory(tracer.Image(), tracer)
	m.Store(0, 1)
	tracer.WriteBack(0, 8)
	var wg sync.WaitGroup
	wg.Go(tracer.Drain)
	wg.Wait()
	require.NotEmpty(t, tracer.Trace().Unguaranteed(crashtest.X86))
	m.Store(0, 2) // after the write-back: not part of it
	tracer.Drain()
	require.Equal(t, []string{"1", "2"}, images(t, tracer.Trace().From(5), crashtest.X86, 1))
}

// TestAnonymousTracesLoseNothing: without the goroutines of stores, and with each Persist
// on its own, a trace has the same images.
func TestAnonymousTracesLoseNothing(t *testing.T) {
	var want []string
	for _, anonymous := range []bool{false, true} {
		tracer := crashtest.NewTracer(make([]byte, 192))
		tracer.Anonymous = anonymous
		m := crashtest.NewMemory(tracer.Image(), tracer)
		m.Store(0, 1)
		m.Store(64, 1)
		m.Persist(line(0))
		tracer.WriteBack(64, 8) // not through Persist: the drain of the same goroutine counts
		m.Store(128, 1)
		var wg sync.WaitGroup
		wg.Go(func() { m.Persist(line(128)) })
		wg.Wait()
		m.Store(0, 2)
		tracer.Drain()
		got := images(t, tracer.Trace(), crashtest.X86, 17)
		if !anonymous {
			want = got
		}
		require.Equal(t, want, got)
		require.Equal(t, []uint64{0}, tracer.Trace().Unguaranteed(crashtest.X86))
	}
}

func TestASyncCoversItsPagesAndWhatWasStoredBefore(t *testing.T) {
	tracer := crashtest.NewTracer(make([]byte, 3*4096))
	m := crashtest.NewMemory(tracer.Image(), tracer)
	m.Store(0, 1)
	m.Store(4096, 1)
	require.NoError(t, tracer.SyncRange(4096, 8, func() error { m.Store(4104, 1); return nil }))
	require.Equal(t, []uint64{0, 4104}, tracer.Trace().Unguaranteed(crashtest.PageCache))
	require.Error(t, tracer.Sync(func() error { return errors.New("no") }))
	require.Equal(t, []uint64{0, 4104}, tracer.Trace().Unguaranteed(crashtest.PageCache), "a failed sync guarantees nothing")
}

func TestResumeKeepsWhatIsStoredAndNotDurable(t *testing.T) {
	tracer := crashtest.NewTracer(make([]byte, 64))
	m := crashtest.NewMemory(tracer.Image(), tracer)
	m.Store(0, 1)
	tracer.WriteBack(0, 8)
	next := tracer.Trace().Resume(2)
	m = crashtest.NewMemory(next.Image(), next)
	require.Equal(t, uint64(1), m.Load(0))
	next.Drain() // another process: what the dead one wrote back is not its
	require.Equal(t, []uint64{0}, next.Trace().Unguaranteed(crashtest.X86))
	m.Persist(line(0))
	require.Empty(t, next.Trace().Unguaranteed(crashtest.X86))
}

func TestLint(t *testing.T) {
	tracer := crashtest.NewTracer(make([]byte, 128))
	m := crashtest.NewMemory(tracer.Image(), tracer)
	tracer.Begin(1)
	m.Store(0, 1)
	m.Persist(line(0))
	m.Store(64, 1)
	m.Persist(line(0))
	tracer.Ack(1)
	var found []string
	for _, f := range tracer.Trace().Lint(nil) {
		found = append(found, f.What)
	}
	require.Equal(t, []string{
		"the write-back of 8 bytes at 0x0 captures nothing new",
		"the drain has nothing to wait for",
		"operation 1 is acknowledged, but its store at 0x40 (event 4 ) is not durable",
	}, found)
	ignored := func(off, _, _ uint64) bool { return off == 64 }
	require.Len(t, tracer.Trace().Lint(ignored), 2)
}

func TestAuditFindsAStoreAroundTheHook(t *testing.T) {
	tracer := crashtest.NewTracer(make([]byte, 64))
	m := crashtest.NewMemory(tracer.Image(), tracer)
	m.Copy(3, []byte("unaligned bytes"))
	image := m.Image()
	require.NoError(t, tracer.Trace().Audit(image))
	image[60]++
	require.ErrorContains(t, tracer.Trace().Audit(image), "0x3c")
}

// TestEnumerationMatchesAReplay compares the images of random traces with those
// that a simpler program finds: it tries every cut of the stores to each line.
func TestEnumerationMatchesAReplay(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		tracer := crashtest.NewTracer(make([]byte, 128))
		m := crashtest.NewMemory(tracer.Image(), tracer)
		var histories [2][][2]uint64 // per line: words after each store
		floor := [2]int{}
		for i := range histories {
			histories[i] = [][2]uint64{{}}
		}
		for range 8 {
			n := rng.IntN(2)
			if rng.IntN(4) == 0 {
				m.Persist(line(uint64(n) * 64))
				floor[n] = len(histories[n]) - 1
				continue
			}
			now := histories[n][len(histories[n])-1]
			w := rng.IntN(2)
			now[w] = rng.Uint64N(3)
			histories[n] = append(histories[n], now)
			m.Store(uint64(n)*64+uint64(w)*8, now[w])
		}
		want := map[string]bool{}
		for _, a := range histories[0][floor[0]:] {
			for _, b := range histories[1][floor[1]:] {
				want[fmt.Sprint(a, b)] = true
			}
		}
		trace := tracer.Trace()
		got := map[string]bool{}
		_, err := trace.From(len(trace.Events)).Crashes(crashtest.X86, crashtest.Bound{}, nil, func(c *crashtest.Crash) error {
			v := crashtest.NewMemory(c.Image, nil)
			got[fmt.Sprint([2]uint64{v.Load(0), v.Load(8)}, [2]uint64{v.Load(64), v.Load(72)})] = true
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, want, got, "seed %d", seed)
	}
}

// TestBoundedEnumerationKeepsTheExtremes: beyond the bound, no line alone, ahead or
// behind, is left out.
func TestBoundedEnumerationKeepsTheExtremes(t *testing.T) {
	const lines = 20
	tracer := crashtest.NewTracer(make([]byte, lines*64))
	m := crashtest.NewMemory(tracer.Image(), tracer)
	for i := range uint64(lines) {
		m.Store(i*64, 1)
	}
	for _, model := range []crashtest.Model{crashtest.X86, crashtest.ARM, crashtest.PageCache} {
		counts := map[int]int{}
		figures, err := tracer.Trace().Crashes(model, crashtest.Bound{Images: 100}, nil, func(c *crashtest.Crash) error {
			n := 0
			for i := range uint64(lines) {
				n += int(crashtest.NewMemory(c.Image, nil).Load(i * 64))
			}
			if !c.Sampled {
				counts[n]++
			}
			return nil
		})
		require.NoError(t, err)
		require.Zero(t, figures.Exhaustive)
		require.Equal(t, 1, counts[0])
		require.Equal(t, lines, counts[1])
		require.GreaterOrEqual(t, counts[2], lines*(lines-1)/2)
		require.Equal(t, lines, counts[lines-1])
		require.Equal(t, 1, counts[lines])
		require.Positive(t, figures.Sampled)
	}
}

// walk is a judgement that reads words one after the other, each where the one before
// says, and returns what it saw.
func walk(m *crashtest.Memory, words, steps int) string {
	text, at := "", uint64(0)
	for range steps {
		w := m.Load(at * 8)
		text += fmt.Sprint(w)
		at = (at*3 + w + 1) % uint64(words)
	}
	return text
}

// TestWhatNobodyReadsIsNotBranchedOn: with what a judgement read, fewer images show it
// everything that all of them show.
func TestWhatNobodyReadsIsNotBranchedOn(t *testing.T) {
	const words = 64
	fewer := 0
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		tracer := crashtest.NewTracer(make([]byte, words*8))
		m := crashtest.NewMemory(tracer.Image(), tracer)
		for range 12 {
			if at := rng.Uint64N(words) * 8; rng.IntN(6) == 0 {
				m.Persist(line(at))
			} else {
				m.Store(at, rng.Uint64N(5))
			}
		}
		for _, model := range []crashtest.Model{crashtest.X86, crashtest.ARM} {
			saw := func(reads bool) (map[string]bool, crashtest.Figures) {
				saw := map[string]bool{}
				figures, err := tracer.Trace().Crashes(model, crashtest.Bound{}, nil, func(c *crashtest.Crash) error {
					v := crashtest.NewMemory(c.Image, nil)
					saw[walk(v, words, 4)] = true
					if reads {
						c.Read = v.Reads()
					}
					return nil
				})
				require.NoError(t, err)
				return saw, figures
			}
			all, f := saw(false)
			some, g := saw(true)
			require.Equal(t, all, some, "seed %d", seed)
			require.LessOrEqual(t, g.Images, f.Images)
			require.Equal(t, f.Points, g.Exhaustive)
			fewer += f.Images - g.Images
		}
	}
	require.Positive(t, fewer)
}

// TestAWrongClaimOfWhatIsReadIsFoundOut: a judge that says that it reads nothing, but
// reads more when something else is there.
func TestAWrongClaimOfWhatIsReadIsFoundOut(t *testing.T) {
	tracer := crashtest.NewTracer(make([]byte, 128))
	m := crashtest.NewMemory(tracer.Image(), tracer)
	m.Store(0, 1)
	m.Store(64, 1)
	_, err := tracer.Trace().Crashes(crashtest.X86, crashtest.Bound{}, nil, func(c *crashtest.Crash) error {
		there := c.Image[0] != 0
		c.Read = func(line uint64) bool { return there && line == 64 }
		return nil
	})
	require.ErrorContains(t, err, "does not read 0x40")
}

// TestMutantsOfACounterAreKilled: the kit finds what it plants itself.
func TestMutantsOfACounterAreKilled(t *testing.T) {
	tracer := crashtest.NewTracer(make([]byte, 256))
	m := crashtest.NewMemory(tracer.Image(), tracer)
	for op := range 3 { // the value, durable, and then the count that makes it valid
		tracer.Begin(op)
		m.Store(64, uint64(op+1)*7)
		m.Persist(line(64))
		m.Store(0, uint64(op+1))
		m.Persist(line(0))
		tracer.Ack(op)
	}
	suite := crashtest.Suite{Oracle: crashtest.OracleFunc(func(c *crashtest.Crash) error {
		v := crashtest.NewMemory(c.Image, nil)
		n := int(v.Load(0))
		if n < len(c.Acked) || n > len(c.Acked)+len(c.Pending) || v.Load(64) < uint64(n)*7 {
			return fmt.Errorf("count %d with value %d after %d", n, v.Load(64), len(c.Acked))
		}
		return nil
	})}
	_, err := suite.Crash(tracer.Trace())
	require.NoError(t, err)
	mutants := tracer.Trace().Mutants()
	require.Len(t, mutants, 3*(2+2+2)+3)
	for _, mutant := range mutants {
		_, err := suite.Crash(mutant.Trace())
		var v *crashtest.Violation
		require.ErrorAs(t, err, &v, "%v", mutant)
	}
}
