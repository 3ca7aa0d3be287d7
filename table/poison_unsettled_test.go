package table_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// slotHook calls stored after a superblock slot was stored, and fails syncs of pieces of
// the file that hold one while it is asked to.
type slotHook struct {
	throughHook
	slots  [2]uint64
	stored func(slot int)
	fails  atomic.Bool
}

func (h *slotHook) Copy(off uint64, _ []byte, apply func()) {
	apply()
	for i, at := range h.slots {
		if off == at && h.stored != nil {
			h.stored(i)
		}
	}
}

func (h *slotHook) SyncRange(off uint64, n int, apply func() error) error {
	for _, at := range h.slots {
		if h.fails.Load() && at >= off && at < off+uint64(n) {
			return errors.New("no disk")
		}
	}
	return apply()
}

// TestFailedSyncOfAnUnsettledCommit: a kill in the middle of a commit leaves a slot that
// is stored, and perhaps not on the medium. The first sync of the next session, which is
// to make it durable, fails. Then what counts is what the medium holds, be it that commit
// or the one before: the record of the failed sync must not name one that never was.
func TestFailedSyncOfAnUnsettledCommit(t *testing.T) {
	for _, durable := range []bool{false, true} {
		for _, reboots := range []bool{false, true} {
			g := withLog(2, 64<<10)
			hook := &slotHook{slots: g.Regions().Superblock}
			h := pmem.NewHeap(nil, 4<<20)
			po := pmem.Options{Geometry: g, Media: pmem.PageCache, Hook: hook}
			tab := openOn(t, h, po, nil)
			require.NoError(t, tab.Put(b("key"), b("old")))
			before := h.Image()
			var left *pmem.Heap
			slot := 0
			hook.stored = func(i int) { left, slot, hook.stored = h.Copy(), i, nil }
			require.NoError(t, tab.Clear()) // which commits
			require.NotNil(t, left)
			kill(tab)

			hook.fails.Store(true)
			next := openOn(t, left, po, nil)
			<-next.Pool().Swept()
			require.ErrorIs(t, next.Put(b("key"), b("lost")), table.ErrPoisoned)
			kill(next)
			hook.fails.Store(false)

			if !durable { // the kernel dropped the page, or the machine went down
				image := left.Image()
				at := g.Regions().Superblock[slot]
				copy(image[at:][:g.SuperblockBytes()], before[at:])
				left.Load(image)
			}
			if reboots {
				left.Reboot()
			}
			last := openOn(t, left, po, nil)
			got, err := last.Get(b("key"))
			if durable {
				require.ErrorIs(t, err, table.ErrNotFound)
			} else {
				require.NoError(t, err)
				require.Equal(t, "old", string(got))
			}
			require.NoError(t, last.Put(b("key"), b("new")))
			checked(t, last)
			require.NoError(t, last.Close())
		}
	}
}
