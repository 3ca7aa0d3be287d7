package kv_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/contrib/raft/kv"
)

// nodeEnv has the arguments of a node; then this test binary is one.
const nodeEnv = "PMEMTABLE_RAFT_NODE"

func TestMain(m *testing.M) {
	if args := os.Getenv(nodeEnv); args != "" {
		if err := kv.Main(strings.Fields(args)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Timeouts of the tests: far above what is needed, for machines that are busy.
const (
	heartbeat = 300 * time.Millisecond
	deadline  = 60 * time.Second
)

// Snapshots are frequent, so that nodes are killed while they write and restore them.
const snapshotEvery = 100

// process is a node in a process of its own.
type process struct {
	id      string
	dir     string
	address string // for HTTP
	args    string
	cmd     *exec.Cmd
}

// cluster is three of them.
type cluster struct {
	t     *testing.T
	nodes []*process
	peers string
	http  *http.Client
}

// freeAddress returns an address of the loopback interface that nothing listens on.
// Its port is below those that systems give to outgoing connections, which might
// take it while the node is dead.
func freeAddress(t *testing.T) string {
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err == nil {
			require.NoError(t, l.Close())
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, http: &http.Client{Timeout: 10 * time.Second}}
	var peers []string
	root := t.TempDir()
	for i := range 3 {
		p := &process{id: fmt.Sprint("n", i+1), address: freeAddress(t)}
		p.dir = filepath.Join(root, p.id)
		peers = append(peers, fmt.Sprintf("%s=%s/%s", p.id, freeAddress(t), p.address))
		c.nodes = append(c.nodes, p)
	}
	c.peers = strings.Join(peers, ",")
	for _, p := range c.nodes {
		p.args = fmt.Sprintf("-id %s -dir %s -peers %s -heartbeat %s -snapshot-every %d -log-level warn",
			p.id, p.dir, c.peers, heartbeat, snapshotEvery)
		require.NoError(t, os.MkdirAll(p.dir, 0o700))
		c.start(p)
	}
	t.Cleanup(func() {
		for _, p := range c.nodes {
			c.kill(p)
			if t.Failed() {
				out, _ := os.ReadFile(filepath.Join(p.dir, "output"))
				t.Logf("%s said at last:\n%s", p.id, out[max(0, len(out)-4000):])
			}
		}
	})
	return c
}

func (c *cluster) start(p *process) {
	output, err := os.OpenFile(filepath.Join(p.dir, "output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(c.t, err)
	defer output.Close()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), nodeEnv+"="+p.args)
	p.cmd.Stdout, p.cmd.Stderr = output, output
	require.NoError(c.t, p.cmd.Start())
}

// kill is kill -9, and nothing for a node that is dead.
func (c *cluster) kill(p *process) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended by itself, which Wait tells
	err := p.cmd.Wait()
	if state := p.cmd.ProcessState; state.Exited() && !c.t.Failed() {
		c.t.Errorf("%s ended by itself: %v", p.id, err)
	}
	p.cmd = nil
}

// stop ends a node in order.
func (c *cluster) stop(p *process) {
	require.NoError(c.t, p.cmd.Process.Signal(os.Interrupt))
	require.NoError(c.t, p.cmd.Wait(), p.id)
	p.cmd = nil
}

func (c *cluster) status(p *process) (s kv.Status, err error) {
	r, err := c.http.Get("http://" + p.address + "/status")
	if err != nil {
		return s, err
	}
	defer r.Body.Close()
	return s, json.NewDecoder(r.Body).Decode(&s)
}

// until polls.
func (c *cluster) until(what string, cond func() bool) {
	c.t.Helper()
	for end := time.Now().Add(deadline); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("after %s still not: %s", deadline, what)
		}
	}
}

// leader waits for a node that leads, and returns it.
func (c *cluster) leader() (leader *process) {
	c.until("a leader", func() bool {
		for _, p := range c.nodes {
			if p.cmd == nil {
				continue
			}
			if s, err := c.status(p); err == nil && s.State == "Leader" {
				leader = p
				return true
			}
		}
		return false
	})
	return leader
}

// all returns the whole state of a node.
func (c *cluster) all(p *process) map[string]string {
	r, err := c.http.Get("http://" + p.address + "/all")
	require.NoError(c.t, err)
	defer r.Body.Close()
	state := make(map[string]string)
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e kv.Entry
		require.NoError(c.t, json.Unmarshal(lines.Bytes(), &e))
		state[string(e.Key)] = string(e.Value)
	}
	require.NoError(c.t, lines.Err())
	return state
}
