package kv_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A client writes one thing after the other, never the same twice, and keeps a
// record of what was acknowledged. What was not may have happened all the same, and
// may still happen later.

// outcome of a write.
type outcome int

const (
	unknown outcome = iota
	acknowledged
)

type client struct {
	name  string
	rand  *rand.Rand
	http  *http.Client
	nodes []string // HTTP addresses

	puts    map[string]outcome   // of keys that are written once; the value is the key, backwards
	deletes map[string]outcome   // of keys whose put was acknowledged
	appends map[string][]attempt // of lists, in the order of the attempts
}

// attempt is an identifier that was to be appended to a list.
type attempt struct {
	id      string
	outcome outcome
}

const lists = 4 // of a client

// run writes until stop, and counts what is acknowledged.
func (c *client) run(stop *atomic.Bool, acked *atomic.Int64) {
	var undeleted []string
	for seq := 0; !stop.Load(); seq++ {
		var got outcome
		switch n := c.rand.IntN(10); {
		case n < 4:
			key := fmt.Sprintf("put/%s/%d", c.name, seq)
			got = c.write(http.MethodPut, key, valueOf(key))
			if c.puts[key] = got; got == acknowledged {
				undeleted = append(undeleted, key)
			}
		case n < 5 && len(undeleted) > 0:
			key := undeleted[0]
			undeleted = undeleted[1:]
			got = c.write(http.MethodDelete, key, "")
			c.deletes[key] = got
		default:
			list := fmt.Sprintf("list/%s/%d", c.name, c.rand.IntN(lists))
			id := fmt.Sprintf("%s-%d;", c.name, seq)
			got = c.write(http.MethodPost, list, id)
			c.appends[list] = append(c.appends[list], attempt{id, got})
		}
		if got == acknowledged {
			acked.Add(1)
		} else {
			time.Sleep(time.Duration(c.rand.IntN(20)) * time.Millisecond)
		}
	}
}

// write tries once, at any node.
func (c *client) write(method, key, value string) outcome {
	url := "http://" + c.nodes[c.rand.IntN(len(c.nodes))] + "/kv/" + key
	request, err := http.NewRequest(method, url, bytes.NewReader([]byte(value)))
	if err != nil {
		panic(err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return unknown
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode == http.StatusNoContent {
		return acknowledged
	}
	return unknown
}

// valueOf makes a value that belongs to its key.
func valueOf(key string) string {
	b := []byte(strings.Repeat(key, 1+len(key)%5))
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

// check compares a state with the records, and takes what it knows out of it.
func (c *client) check(state map[string]string) error {
	for key, put := range c.puts {
		value, there := state[key]
		deleted, tried := c.deletes[key]
		switch {
		case there && value != valueOf(key):
			return fmt.Errorf("%s is %q", key, value)
		case there && tried && deleted == acknowledged:
			return fmt.Errorf("%s is there, though its deletion was acknowledged", key)
		case !there && put == acknowledged && !tried:
			return fmt.Errorf("%s is lost", key)
		}
		delete(state, key)
	}
	for list, attempts := range c.appends {
		if err := checkList(state[list], attempts); err != nil {
			return fmt.Errorf("%s: %w", list, err)
		}
		delete(state, list)
	}
	return nil
}

// checkList: every acknowledged identifier is there once, and these are in order;
// no other is there twice, and none that nobody appended.
func checkList(value string, attempts []attempt) error {
	at := make(map[string]int)
	for i, id := range strings.SplitAfter(value, ";") {
		if _, twice := at[id]; twice {
			return fmt.Errorf("%s was appended twice", id)
		}
		at[id] = i
	}
	delete(at, "") // behind the last
	last := -1
	for _, a := range attempts {
		i, there := at[a.id]
		delete(at, a.id)
		if a.outcome != acknowledged {
			continue
		}
		if !there {
			return fmt.Errorf("%s is lost", a.id)
		}
		if i < last {
			return fmt.Errorf("%s is not behind what was acknowledged before it", a.id)
		}
		last = i
	}
	for id := range at {
		return fmt.Errorf("%q was never written", id)
	}
	return nil
}

// load is clients at work.
type load struct {
	clients []*client
	stop    atomic.Bool
	acked   atomic.Int64
	work    sync.WaitGroup
}

func startLoad(seed uint64, n int, nodes []*process) *load {
	l := new(load)
	for i := range n {
		c := &client{
			name: fmt.Sprint("c", i), rand: rand.New(rand.NewPCG(seed, uint64(i)+1)), http: &http.Client{Timeout: 5 * time.Second},
			puts: make(map[string]outcome), deletes: make(map[string]outcome), appends: make(map[string][]attempt),
		}
		for _, p := range nodes {
			c.nodes = append(c.nodes, p.address)
		}
		l.clients = append(l.clients, c)
		l.work.Go(func() { c.run(&l.stop, &l.acked) })
	}
	return l
}

func (l *load) end() {
	l.stop.Store(true)
	l.work.Wait()
}
