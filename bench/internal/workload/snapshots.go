package workload

import (
	"errors"
	"sync"
	"time"

	"pmemtable/bench/internal/stores"
)

// snapshotter makes snapshots in the background; one at a time is open.
type snapshotter struct {
	quit  chan struct{}
	group sync.WaitGroup
	made  int
	err   error
}

func startSnapshots(s stores.Store, every time.Duration) *snapshotter {
	n := &snapshotter{quit: make(chan struct{})}
	if every == 0 {
		return n
	}
	from, ok := s.(stores.Snapshotter)
	if !ok {
		n.err = errors.New("the store makes no snapshots")
		return n
	}
	n.group.Go(func() {
		release := func() error { return nil }
		for n.err == nil {
			next, err := from.Snapshot()
			if err != nil {
				n.err = err
				break
			}
			n.made++
			n.err = release()
			release = next
			select {
			case <-n.quit:
				n.err = errors.Join(n.err, release())
				return
			case <-time.After(every):
			}
		}
	})
	return n
}

func (n *snapshotter) stop() (made int, err error) {
	close(n.quit)
	n.group.Wait()
	return n.made, n.err
}
